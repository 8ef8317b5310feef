"""features.customer_days: one row per customer, day, and days from and until which this is known of that day.

Inputs: clean.events without robots, clean.orders by order date, clean.returns by refund date. The columns are the
daily aggregates of jobs/catalogue/, all of which can be merged: a refresh computes the days that changed and reads the rest.

`identified_on` is later than the day where a visitor's earlier events got their customer only later, and where a session
went on after midnight: as of a day before that, the customer does not have them. A later row holds the difference to the
earlier rows, so that the rows known by a day add up to what was known on that day.

`known_until` ends three things. Events of a device count until it was known to be shared by too many customers; a row of its
own has what is left. An order counts until all its products were cancelled; its money stays on its day, and the money
given back on the day of that. A version of an order counts until the next one was known.
"""

from collections.abc import Collection
from datetime import date, timedelta
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs import catalogue
from jobs.catalogue import DailyAggregate
from jobs.clean import events as clean_events
from jobs.clean import orders as clean_orders
from jobs.clean import returns as clean_returns
from jobs.config.settings import Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Write
from jobs.features import _holidays
from jobs.features._query import BUCKET_SIZE, find_columns, run_steps
from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows
from jobs.storage.table import Table

FOREVER = date(9999, 12, 31)
_KEYS = "customer_id, day, identified_on, known_until"
_SCALAR = [p for p in catalogue.DAILY_AGGREGATES if p.operation != "histogram"]
_HISTOGRAMS = [p for p in catalogue.DAILY_AGGREGATES if p.operation == "histogram"]


def _declared(aggregate: DailyAggregate) -> str:
    required = " NOT NULL" if aggregate.operation == "sum" else ""
    return f"{aggregate.name} {aggregate.sql_type}{required} COMMENT '{aggregate.meaning}'"


SCHEMA = ",\n    ".join(
    [
        "customer_id STRING NOT NULL COMMENT 'customer'",
        "day DATE NOT NULL COMMENT 'day, UTC'",
        "identified_on DATE NOT NULL COMMENT 'day from which this is known of the day'",
        "known_until DATE NOT NULL COMMENT 'day from which it no longer holds: a device shared by too many, an order cancelled "
        "or changed; "
        "9999-12-31 for what stays'",
        *map(_declared, catalogue.DAILY_AGGREGATES),
    ]
)
TABLE = Table(
    "features.customer_days", __doc__.split("\n\n")[0], SCHEMA, "day",
    {"adds_up": "net = gross - discount - returned", "known_later": "identified_on >= day AND known_until > identified_on"},
)  # fmt: skip
_VERSION = 6  # raise it when the same clean rows become other daily aggregates: every day is then due again


def _of_source(*sources: str) -> list[DailyAggregate]:
    return [p for p in catalogue.DAILY_AGGREGATES if p.source in sources]


def _texts(*sources: str) -> list[str]:
    """The SQL of all daily aggregates of these sources."""
    return [text for p in _of_source(*sources) for text in (p.sql, p.amount)]


_OF_EVENTS = (
    "customer_id", "former_customer_id", "shared_since", "identified_on", "is_bot", "day", "session_id", "session_started_at",
    "event_at", "event_type", "product_id",
)  # fmt: skip
_OF_ORDERS = (
    "customer_id", "day", "shop", "order_id", "known_from", "known_until", "ordered_at", "line_kind", "status", "quantity",
    "returned_at", "gross_amount", "discount_amount",
)  # fmt: skip
# The columns that the kernel reads: those it needs itself, and those that the SQL of an aggregate names.
EVENTS = find_columns(clean_events.TABLE.columns, [*_OF_EVENTS, *_texts("event", "search")])
ORDERS = find_columns(clean_orders.TABLE.columns, [*_OF_ORDERS, *_texts("line", "product")])
RETURNS = ("customer_id", "day", "shop", "return_order_id", "return_line_no", "kind", "amount")


def aggregate_customer_days(
    tables: dict[str, pa.Table], due: Collection[date], holidays: Collection[date]
) -> dict[str, pa.Table]:
    """Return features.customer_days of the days `due` as `customer_days`; `holidays` are the days near a public one.

    Key: customer. Inputs: `events` of these days and of those into which a session may go on, `orders` and `returns` of these
    days, with the columns EVENTS, ORDERS and RETURNS. Sorted by day and customer. About 3 µs of CPU an event.
    """
    days = {
        name: pa.table({"day": pa.array(sorted(values), pa.date32())}) for name, values in (("due", due), ("holidays", holidays))
    }
    return {"customer_days": run_steps({**tables, **days}, write_steps(), _result())}


def find_customers(events: pa.Table) -> pa.Array:
    """Return the customer whose daily aggregates each event may change."""
    return pc.coalesce(events["customer_id"], events["former_customer_id"])


def write_steps() -> dict[str, str]:
    """Return the SQL of the daily aggregates step by step, made from the catalogue."""
    return {
        "known_events": _known_events(),
        "session_parts": _session_parts(),
        "session_states": _session_states(),
        "searches": "SELECT *, row_number() OVER () AS search FROM known_events WHERE event_type = 'search'",
        "stretches": _STRETCHES,
        "hits": _HITS,
        "order_ends": _ORDER_ENDS,
        "lines": _LINES,
        "orders_summed": _orders_summed(),
        "order_days": _ORDER_DAYS,
        "return_lines": _RETURN_LINES,
        "added": _added(),
        "scalars": _scalars(),
        "value_counts": _value_counts(),
        "value_lists": _value_lists(),
    }


def _result() -> str:
    """The rows, with what is made of other columns of a row."""
    of_row = ", ".join(f"({p.sql})::{p.sql_type} AS {p.name}" for p in _of_source("row"))
    return f"""SELECT {", ".join(TABLE.columns)} FROM (SELECT *, {of_row} FROM scalars) LEFT JOIN value_lists USING ({_KEYS})
ORDER BY day, customer_id, identified_on, known_until"""  # noqa: S608


def _known_events() -> str:
    """Events with a customer, and from when until when they were known to be theirs: of a shared visitor before and after."""
    columns = ", ".join(name for name in EVENTS if name not in ("customer_id", "identified_on"))
    is_shared = "NOT is_bot AND shared_since IS NOT NULL"
    return f"""SELECT customer_id, identified_on, DATE '{FOREVER}' AS known_until, {columns} FROM events
WHERE NOT is_bot AND shared_since IS NULL AND customer_id IS NOT NULL
UNION ALL
SELECT coalesce(customer_id, former_customer_id), identified_on, shared_since, {columns} FROM events
WHERE {is_shared} AND identified_on < shared_since AND coalesce(customer_id, former_customer_id) IS NOT NULL
UNION ALL
SELECT customer_id, greatest(identified_on, shared_since), DATE '{FOREVER}', {columns} FROM events
WHERE {is_shared} AND customer_id IS NOT NULL"""  # noqa: S608


def _session_parts() -> str:
    """Per session: its events of one day that were known together."""
    return f"""SELECT {_KEYS}, session_id, session_started_at::DATE AS began,
    {_aggregate_rows("event")},
    min(event_at) AS first_at, max(event_at) AS last_at
FROM known_events GROUP BY ALL"""  # noqa: S608


_SO_FAR = "so_far AS (PARTITION BY customer_id, session_id, known_until ORDER BY identified_on, day)"


def _session_states() -> str:
    """Per session: what each of its parts and those known before add up to."""
    counts = find_columns([p.name for p in _select_scalars("event")], _texts("session"))
    sums = ", ".join(f"(sum({name}) OVER so_far)::BIGINT AS {name}" for name in counts)
    return f"""SELECT {_KEYS}, session_id, began, {sums},
    date_diff('second', min(first_at) OVER so_far, max(last_at) OVER so_far) AS seconds
FROM session_parts WINDOW {_SO_FAR}"""  # noqa: S608


def _session_changes() -> str:
    """What each part of a session changed on the day the session began."""
    changes = ",\n    ".join(
        f"({p.sql})::{p.sql_type} - coalesce(lag(({p.sql})::{p.sql_type}) OVER so_far, 0) AS {p.name}"
        for p in _select_scalars("session")
    )
    return f"""SELECT customer_id, began AS day, identified_on, known_until,
    {changes}
FROM session_states WINDOW {_SO_FAR}"""  # noqa: S608


# A stretch of views and cart adds is no longer than a hit may take: a search is one where a stretch that ends with it or
# later begins in time.
_STRETCHES = f"""SELECT customer_id, session_id, known_until, identified_on, min(event_at) AS begins_at, max(event_at) AS ends_at
FROM known_events
WHERE event_type = 'add_to_cart' OR event_type = 'view' AND product_id IS NOT NULL
GROUP BY customer_id, session_id, known_until, identified_on, epoch_us(event_at) // {catalogue.SEARCH_HIT_MINUTES * 60_000_000}"""  # noqa: S608
# Searches that led to a product, known when the earliest stretch that ends after them is.
_HITS = f"""SELECT searches.* EXCLUDE (identified_on), greatest(searches.identified_on, led_on.known_on) AS identified_on
FROM searches JOIN (
    SELECT search, arg_min(stretches.identified_on, (begins_at, stretches.identified_on)) AS known_on
    FROM searches JOIN stretches USING (customer_id, session_id, known_until)
    WHERE ends_at >= event_at AND begins_at <= event_at + INTERVAL {catalogue.SEARCH_HIT_MINUTES} MINUTE
    GROUP BY search
) AS led_on USING (search)"""  # noqa: S608

# The day on which all products of a version of an order were cancelled, or the next version was known.
_ORDER_ENDS = """SELECT customer_id, day, shop, order_id, known_from, known_until AS version_until,
    least(known_until, CASE WHEN bool_and(line_kind <> 'product' OR status = 'cancelled')
        THEN max(CASE WHEN line_kind = 'product' THEN returned_at::DATE END) END) AS counts_until
FROM orders WHERE customer_id IS NOT NULL AND quantity > 0
GROUP BY customer_id, day, shop, order_id, known_from, known_until"""
_LINES = """SELECT orders.* EXCLUDE (known_from, known_until), orders.known_from AS identified_on, counts_until AS known_until,
    version_until
FROM orders JOIN order_ends ON orders.customer_id = order_ends.customer_id AND orders.day = order_ends.day
    AND orders.shop IS NOT DISTINCT FROM order_ends.shop AND orders.order_id = order_ends.order_id
    AND orders.known_from = order_ends.known_from AND orders.known_until = version_until
WHERE quantity > 0"""


def _orders_summed() -> str:
    """Each version of an order, until all its products are cancelled and to its own end where that differs: `counts_until`."""
    return f"""SELECT *, unnest(list_distinct([known_until, version_until])) AS counts_until,
    day IN (FROM holidays) AS before_holiday
FROM (
    SELECT {_KEYS}, version_until, shop, order_id,
        {_aggregate_rows("line")},
        {_aggregate_rows("product", "line_kind = 'product'")},
        bool_or(line_kind <> 'discount') AS is_order, min(ordered_at) AS ordered_at,
        sum(gross_amount) AS gross_amount, sum(discount_amount) AS discount_amount
    FROM lines GROUP BY ALL)"""  # noqa: S608


# From when until when a customer had any order on a day, each stretch once.
_ORDER_DAYS = """SELECT customer_id, day, min(identified_on) AS identified_on, max(known_until) AS known_until
FROM (
    SELECT *, sum(begins) OVER (PARTITION BY customer_id, day ORDER BY identified_on, known_until) AS stretch
    FROM (
        SELECT customer_id, day, identified_on, known_until, (identified_on >= coalesce(max(known_until) OVER (
            PARTITION BY customer_id, day ORDER BY identified_on, known_until ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), identified_on))::INT AS begins
        FROM orders_summed WHERE counts_until = known_until AND is_order AND known_until > identified_on))
GROUP BY customer_id, day, stretch"""

_RETURN_LINES = """SELECT customer_id, day, shop, return_order_id, return_line_no, sum(amount) AS amount, max(kind) AS kind
FROM returns WHERE customer_id IS NOT NULL GROUP BY ALL"""


def _added() -> str:
    """What every source adds to a customer and day, to be merged."""
    counts = ", ".join(p.name for p in _select_scalars("event"))
    to_its_end, until = "counts_until = version_until", "counts_until = known_until"
    return f"""SELECT {_KEYS}, {counts} FROM session_parts
UNION ALL BY NAME
{_session_changes()}
UNION ALL BY NAME
SELECT {_KEYS},
    {_aggregates_per_row("search")}
FROM hits
UNION ALL BY NAME
SELECT customer_id, day, identified_on, counts_until AS known_until,
    {", ".join(f"CASE WHEN {to_its_end} THEN {p.name} END AS {p.name}" for p in _select_scalars("line"))},
    {", ".join(f"CASE WHEN {until} THEN {p.name} END AS {p.name}" for p in _select_scalars("product"))},
    {_aggregates_per_row("order", f"{until} AND is_order")}
FROM orders_summed WHERE counts_until > identified_on
UNION ALL BY NAME
SELECT {_KEYS}, {_aggregates_per_row("order_day")} FROM order_days
UNION ALL BY NAME
SELECT customer_id, day, day AS identified_on, DATE '{FOREVER}' AS known_until,
    {_aggregates_per_row("return")}
FROM return_lines"""  # noqa: S608


def _scalars() -> str:
    """The numbers of a row, but for those that are made of others of the row."""
    merged = ",\n    ".join(_merge_aggregate(p) for p in _SCALAR if p.source != "row")
    return f"""SELECT {_KEYS},
    {merged}
FROM added WHERE day IN (FROM due) GROUP BY {_KEYS}"""  # noqa: S608


def _value_counts() -> str:
    """The values of all histograms with their amounts. Whoever has a value has the event or the order that it is of."""
    rows = {"event": "known_events WHERE", "product": "lines WHERE line_kind = 'product' AND known_until > identified_on AND"}
    return "\nUNION ALL\n".join(
        f"""SELECT {_KEYS}, '{p.name}' AS histogram, {p.sql} AS thing, sum({p.amount})::{catalogue.MONEY} AS amount
FROM {rows[p.source]} day IN (FROM due) AND ({p.sql}) IS NOT NULL GROUP BY ALL"""  # noqa: S608
        for p in _HISTOGRAMS
    )


def _value_lists() -> str:
    """The histograms, each a list in the order of its values."""
    lists = ",\n    ".join(
        f"list_sort(list({{'thing': thing, 'amount': amount}}) FILTER (histogram = '{p.name}')) AS {p.name}" for p in _HISTOGRAMS
    )
    return f"""SELECT {_KEYS},
    {lists}
FROM value_counts GROUP BY {_KEYS}"""  # noqa: S608


def _select_scalars(source: str) -> list[DailyAggregate]:
    return [p for p in _SCALAR if p.source == source]


def _aggregate_rows(source: str, where: str = "true") -> str:
    """The aggregates of a source out of its rows."""
    return ",\n    ".join(
        f"({p.operation}(CASE WHEN {where} THEN {p.sql} END))::{p.sql_type} AS {p.name}" for p in _select_scalars(source)
    )


def _aggregates_per_row(source: str, where: str = "true") -> str:
    """The aggregates of a source out of one of its rows, to be merged later."""
    return ",\n    ".join(f"(CASE WHEN {where} THEN {p.sql} END)::{p.sql_type} AS {p.name}" for p in _select_scalars(source))


def _merge_aggregate(aggregate: DailyAggregate) -> str:
    """A daily aggregate out of what several rows have of it."""
    merged = f"{aggregate.operation}({aggregate.name})"
    value = f"coalesce({merged}, 0)" if aggregate.operation == "sum" else merged
    return f"({value})::{aggregate.sql_type} AS {aggregate.name}"


def run(lake: Lake, settings: Settings, days: list[date]) -> None:
    """Bring the daily aggregates up to date for `days` and for every earlier day whose clean rows have changed."""
    reach = range(-(-settings.clean.session_max_hours // 24) + 1)  # a session may go on for so many days
    of_events, of_orders = (reconciliation.read_revisions(lake, table) for table in ("clean.events", "clean.orders"))
    known_days = {day for day in {*of_events, *of_orders} if day <= days[-1]}
    holidays = _holidays.days_near_holidays(settings.features.holiday_country, known_days)
    inputs = {
        day: reconciliation.fingerprint_inputs(
            _VERSION, of_orders.get(day, ""), day in holidays, *(of_events.get(_after(day, n), "") for n in reach)
        )
        for day in known_days
    }
    due = reconciliation.due_days(lake, TABLE.name, inputs, days)
    if not due:
        return
    of_due = sorted({_after(day, n) for day in due for n in reach})
    opened = lake.open_for_write(TABLE)
    n_rows = lake.count_rows("clean.events", set(of_due)) + lake.count_rows("clean.orders", set(due))
    with open_runner(lake, settings, n_rows) as runner:
        inputs_read = runner.read(
            {
                "events": Rows(clean_events.TABLE, find_customers, EVENTS, of_due),
                "orders": Rows(clean_orders.TABLE, "customer_id", ORDERS, due),
                "returns": Rows(clean_returns.TABLE, "customer_id", RETURNS, due),
            },
            count_buckets(n_rows // BUCKET_SIZE),
        )
        kernel = partial(aggregate_customer_days, due=due, holidays=holidays)
        written = runner.run(kernel, inputs_read, {"customer_days": Write(TABLE, gather=True)})
        opened.commit(written.files["customer_days"], due)
    rows = lake.count_by(TABLE.name, ["day"], ds.field("day").isin(due))
    accounts = [reconciliation.Account(d, rows[d,], rows[d,], inputs[d]) for d in due]
    reconciliation.write_accounts(lake, {TABLE.name: accounts})


def _after(day: date, days: int) -> date:
    return day + timedelta(days=days)
