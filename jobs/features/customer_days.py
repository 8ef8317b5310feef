"""features.customer_days: one row per customer, day, and days from and until which this is known of that day.

Inputs: clean.events without robots, clean.orders by order date, clean.returns by refund date. The columns are the
daily aggregates of jobs/catalogue/, all of which can be merged: a refresh computes the days that changed and reads the rest.

`identified_on` is later than the day where a visitor's earlier events got their customer only later, and where a session
went on after midnight: as of a day before that, the customer does not have them. A later row holds the difference to the
earlier rows, so that the rows known by a day add up to what was known on that day.

`known_until` ends two things. Events of a device count until it was known to be shared by too many customers; a row of its
own has what is left. An order counts until all its products were cancelled; its money stays on its day, and the money
given back on the day of that.
"""

from collections import Counter
from collections.abc import Collection, Iterator
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
from jobs.engine.tasks import Call, Write
from jobs.features import _holidays
from jobs.features._query import BUCKET_SIZE, find_columns, run_steps
from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, Scan
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
        "known_until DATE NOT NULL COMMENT 'day from which it no longer holds: a device shared by too many, an order cancelled; "
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
    "customer_id", "day", "order_id", "ordered_at", "line_kind", "status", "quantity", "returned_at", "gross_amount",
    "discount_amount",
)  # fmt: skip
# The columns that the kernel reads: those it needs itself, and those that the SQL of an aggregate names.
EVENTS = find_columns(clean_events.TABLE.columns, [*_OF_EVENTS, *_texts("event", "search")])
ORDERS = find_columns(clean_orders.TABLE.columns, [*_OF_ORDERS, *_texts("line", "product")])
EVENTS_SCHEMA = Rows(clean_events.TABLE, "customer_id", EVENTS).schema
RETURNS = ("customer_id", "day", "return_order_id", "return_line_no", "kind", "amount")


def aggregate_customer_days(
    tables: dict[str, pa.Table | Scan], due: Collection[date], holidays: Collection[date]
) -> dict[str, pa.Table]:
    """Return features.customer_days of the days `due` as `customer_days`; `holidays` are the days near a public one.

    Key: customer, or these days. Inputs: `events` of these days and of those into which a session may go on, `moved`, those of
    them that were given to another customer before (none where it is left out), `orders` and `returns` of these days, with the
    columns EVENTS, ORDERS and RETURNS. Sorted by day and customer. About 2 µs of CPU an event.
    """
    days = {
        name: pa.table({"day": pa.array(sorted(values), pa.date32())}) for name, values in (("due", due), ("holidays", holidays))
    }
    tables = {"moved": EVENTS_SCHEMA.empty_table(), **tables}
    results = run_steps({**tables, **days}, write_steps(), _results(), views=("known_events",))
    rows = results["customer_days"]
    for p in _HISTOGRAMS:
        rows = rows.append_column(p.name, _to_lists(rows[f"n_{p.name}"], results[p.name]))
    return {"customer_days": rows.select(TABLE.columns)}


def _to_lists(lengths: pa.ChunkedArray, values: pa.Table) -> pa.Array:
    """Return a list of so many of the values for each row, one after the other; null where the length is null."""
    n_values = pc.fill_null(lengths, 0)
    starts = pc.if_else(pc.is_valid(lengths), pc.subtract(pc.cumulative_sum(n_values), n_values), None)
    offsets = pa.chunked_array([*starts.chunks, pa.array([values.num_rows], pa.int32())]).combine_chunks()
    return pa.ListArray.from_arrays(offsets, values.to_struct_array().combine_chunks())


def find_customers(events: pa.Table) -> pa.Array:
    """Return the customer whose daily aggregates each event may change; those that it moved from have it in `moved`."""
    return pc.coalesce(events["customer_id"], events["former_customer_id"])


def write_steps() -> dict[str, str]:
    """Return the SQL of the daily aggregates step by step, made from the catalogue."""
    return {
        "shared_events": "FROM events WHERE shared_since IS NOT NULL",
        "known_events": _known_events(),
        "session_parts": _session_parts(),
        "split_sessions": _SPLIT_SESSIONS,
        "split_parts": f"FROM session_parts SEMI JOIN split_sessions USING ({_SESSION})",
        "session_states": _session_states(),
        "searches": _searches(),
        "stretches": _STRETCHES,
        "hits": _HITS,
        "visits": _visits(),
        "order_ends": _ORDER_ENDS,
        "lines": _LINES,
        "orders_summed": _orders_summed(),
        "return_lines": _RETURN_LINES,
        "sales": _sales(),
        "scalars": _scalars(),
        "rows_of_day": _ROWS_OF_DAY,
        "value_counts": _value_counts(),
    }


def _results() -> dict[str, str]:
    """The rows with the lengths of their histograms, and the values of each histogram in the order of the rows."""
    of_row = ", ".join(f"({p.sql})::{p.sql_type} AS {p.name}" for p in _of_source("row"))
    lengths = ", ".join(f"(nullif(count(*) FILTER (histogram = '{p.name}'), 0))::INT AS n_{p.name}" for p in _HISTOGRAMS)
    in_order = "ORDER BY day, customer_id, identified_on, known_until"
    rows = f"""SELECT *, {of_row} FROM scalars LEFT JOIN rows_of_day USING ({_KEYS})
    LEFT JOIN (SELECT {_KEYS}, {lengths} FROM value_counts GROUP BY {_KEYS}) USING ({_KEYS})
{in_order}"""  # noqa: S608
    values = {
        p.name: f"SELECT thing, amount FROM value_counts WHERE histogram = '{p.name}' {in_order}, thing"  # noqa: S608
        for p in _HISTOGRAMS
    }
    return {"customer_days": rows, **values}


def _known_events() -> str:
    """Events with a customer, and from when until when they were known to be theirs: before and after a change."""
    columns = ", ".join(name for name in EVENTS if name not in ("customer_id", "identified_on"))
    return f"""SELECT customer_id, identified_on, DATE '{FOREVER}' AS known_until, {columns} FROM events
WHERE NOT is_bot AND shared_since IS NULL AND customer_id IS NOT NULL
UNION ALL
SELECT coalesce(customer_id, former_customer_id), identified_on, shared_since, {columns} FROM shared_events
WHERE NOT is_bot AND identified_on < shared_since AND (customer_id IS NULL) <> (former_customer_id IS NULL)
UNION ALL
SELECT former_customer_id, identified_on, shared_since, {columns} FROM moved
WHERE NOT is_bot AND identified_on < shared_since AND customer_id IS NOT NULL
UNION ALL
SELECT customer_id, greatest(identified_on, shared_since), DATE '{FOREVER}', {columns} FROM shared_events
WHERE NOT is_bot AND customer_id IS NOT NULL"""  # noqa: S608


def _session_parts() -> str:
    """Per session: its events of one day that were known together."""
    return f"""SELECT {_KEYS}, session_id, session_started_at::DATE AS began,
    {_aggregate_rows("event")},
    min(event_at) AS first_at, max(event_at) AS last_at
FROM known_events GROUP BY ALL"""  # noqa: S608


_SESSION = "customer_id, session_id, known_until"
_SECONDS = "date_diff('second', first_at, last_at) AS seconds"
# Sessions of several parts, or of a part after the day on which they began; all others are known at once as a whole.
_SPLIT_SESSIONS = f"""SELECT {_SESSION} FROM session_parts GROUP BY ALL
HAVING count(*) > 1 OR min(day) IS DISTINCT FROM min(began)"""  # noqa: S608
_SO_FAR = f"so_far AS (PARTITION BY {_SESSION} ORDER BY identified_on, day)"


def _session_states() -> str:
    """Per split session: what each of its parts and those known before add up to."""
    counts = find_columns([p.name for p in _select_scalars("event")], _texts("session"))
    sums = ", ".join(f"(sum({name}) OVER so_far)::BIGINT AS {name}" for name in counts)
    return f"""SELECT {_KEYS}, session_id, began, {sums},
    date_diff('second', min(first_at) OVER so_far, max(last_at) OVER so_far) AS seconds
FROM split_parts WINDOW {_SO_FAR}"""  # noqa: S608


def _session_changes() -> str:
    """What each part of a session changed on the day the session began."""
    changes = ",\n    ".join(
        f"({p.sql})::{p.sql_type} - coalesce(lag(({p.sql})::{p.sql_type}) OVER so_far, 0) AS {p.name}"
        for p in _select_scalars("session")
    )
    return f"""SELECT customer_id, began AS day, identified_on, known_until,
    {changes}
FROM session_states WINDOW {_SO_FAR}"""  # noqa: S608


def _searches() -> str:
    columns = dict.fromkeys([*_KEYS.split(", "), *_SESSION.split(", "), "event_at", *find_columns(EVENTS, _texts("search"))])
    return f"SELECT {', '.join(columns)}, row_number() OVER () AS search FROM known_events WHERE event_type = 'search'"  # noqa: S608


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

# The day on which all products of an order were cancelled.
_ORDER_ENDS = f"""SELECT customer_id, day, order_id,
    coalesce(CASE WHEN bool_and(line_kind <> 'product' OR status = 'cancelled')
        THEN max(CASE WHEN line_kind = 'product' THEN returned_at::DATE END) END, DATE '{FOREVER}') AS known_until
FROM orders WHERE customer_id IS NOT NULL AND quantity > 0 GROUP BY ALL"""  # noqa: S608
_LINES = """SELECT orders.*, day AS identified_on, known_until FROM orders JOIN order_ends USING (customer_id, day, order_id)
WHERE quantity > 0"""


def _orders_summed() -> str:
    """Each order, until all its products are cancelled and for good where that differs: `counts_until`."""
    return f"""SELECT *, unnest(list_distinct([known_until, DATE '{FOREVER}'])) AS counts_until,
    day IN (FROM holidays) AS before_holiday
FROM (
    SELECT {_KEYS}, order_id,
        {_aggregate_rows("line")},
        {_aggregate_rows("product", "line_kind = 'product'")},
        bool_or(line_kind <> 'discount') AS is_order, min(ordered_at) AS ordered_at,
        sum(gross_amount) AS gross_amount, sum(discount_amount) AS discount_amount
    FROM lines GROUP BY ALL)"""  # noqa: S608


_RETURN_LINES = """SELECT customer_id, day, return_order_id, return_line_no, sum(amount) AS amount, max(kind) AS kind
FROM returns WHERE customer_id IS NOT NULL GROUP BY ALL"""


def _visits() -> str:
    """The numbers of a row that come from events: merged from sessions and searches."""
    merged = ",\n    ".join(_merge_aggregate(p) for p in _SCALAR if p.source in ("event", "session", "search"))
    counts = ", ".join(p.name for p in _select_scalars("event"))
    return f"""SELECT {_KEYS},
    {merged}
FROM (
    SELECT {_KEYS}, {counts},
        {_aggregates_per_row("session")}
    FROM (SELECT *, {_SECONDS} FROM session_parts ANTI JOIN split_sessions USING ({_SESSION}))
    UNION ALL BY NAME
    SELECT {_KEYS}, {counts} FROM split_parts
    UNION ALL BY NAME
    {_session_changes()}
    UNION ALL BY NAME
    SELECT {_KEYS},
        {_aggregate_rows("search")}
    FROM hits GROUP BY {_KEYS})
WHERE day IN (FROM due) GROUP BY {_KEYS}"""  # noqa: S608


def _sales() -> str:
    """The numbers of a row that come from orders and returns, merged."""
    merged = ",\n    ".join(_merge_aggregate(p) for p in _SCALAR if p.source in ("line", "product", "order", "return"))
    for_good, until = f"counts_until = DATE '{FOREVER}'", "counts_until = known_until"
    return f"""SELECT {_KEYS},
    {merged}
FROM (
    SELECT customer_id, day, identified_on, counts_until AS known_until,
        {", ".join(f"CASE WHEN {for_good} THEN {p.name} END AS {p.name}" for p in _select_scalars("line"))},
        {", ".join(f"CASE WHEN {until} THEN {p.name} END AS {p.name}" for p in _select_scalars("product"))},
        {_aggregates_per_row("order", f"{until} AND is_order")}
    FROM orders_summed WHERE counts_until > day
    UNION ALL BY NAME
    SELECT customer_id, day, day AS identified_on, DATE '{FOREVER}' AS known_until,
        {_aggregates_per_row("return")}
    FROM return_lines)
WHERE day IN (FROM due) GROUP BY {_KEYS}"""  # noqa: S608


def _scalars() -> str:
    """The numbers of a row, but for those that are made of others of the row."""
    scalars = ",\n    ".join(_fill_scalar(p) for p in _SCALAR if p.source != "row")
    return f"SELECT {_KEYS},\n    {scalars}\nFROM visits FULL JOIN sales USING ({_KEYS})"


# What the rows of a customer and day say of each other, where there are several.
_ROWS_OF_DAY = f"""SELECT {_KEYS},
    max(CASE WHEN events > 0 THEN known_until END) OVER (PARTITION BY customer_id, day ORDER BY identified_on, known_until DESC
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS events_until,
    max(CASE WHEN orders > 0 THEN known_until END) OVER (PARTITION BY customer_id, day) AS orders_until
FROM scalars SEMI JOIN (SELECT customer_id, day FROM scalars GROUP BY ALL HAVING count(*) > 1) USING (customer_id, day)"""  # noqa: S608


def _value_counts() -> str:
    """The values of all histograms with their amounts. Whoever has a value has the event or the order that it is of."""
    rows = {"event": "known_events WHERE", "product": "lines WHERE line_kind = 'product' AND known_until > day AND"}
    return "\nUNION ALL\n".join(
        f"""SELECT {_KEYS}, '{p.name}' AS histogram, {p.sql} AS thing, sum({p.amount})::{catalogue.MONEY} AS amount
FROM {rows[p.source]} day IN (FROM due) AND ({p.sql}) IS NOT NULL GROUP BY ALL"""  # noqa: S608
        for p in _HISTOGRAMS
    )


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
    return f"({aggregate.operation}({aggregate.name}))::{aggregate.sql_type} AS {aggregate.name}"


def _fill_scalar(aggregate: DailyAggregate) -> str:
    """A daily aggregate, 0 where nothing was added up."""
    return f"coalesce({aggregate.name}, 0) AS {aggregate.name}" if aggregate.operation == "sum" else aggregate.name


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
    rows_per_day = lake.count_rows_by_day("clean.events") + lake.count_rows_by_day("clean.orders")
    calls = []
    for portion in _split_days(due, rows_per_day):
        n_buckets = count_buckets(sum(rows_per_day[day] for day in portion) // BUCKET_SIZE)
        kernel = partial(aggregate_customer_days, due=portion, holidays=holidays)
        rows = _list_rows(portion, {_after(day, n) for day in portion for n in reach})
        calls += [Call(kernel, rows, bucket, n_buckets) for bucket in range(n_buckets)]
    opened = lake.open_for_write(TABLE)
    with open_runner(lake, settings, sum(rows_per_day[day] for day in due)) as runner:
        written = runner.run_calls(calls, {"customer_days": Write(TABLE)})
        opened.commit(written.files["customer_days"], due)
    n_rows = lake.count_rows_by_day(TABLE.name)
    accounts = [reconciliation.Account(d, n_rows[d], n_rows[d], inputs[d]) for d in due]
    reconciliation.write_accounts(lake, {TABLE.name: accounts})


def _list_rows(due: list[date], days_of_sessions: set[date]) -> dict[str, Rows]:
    is_moved = ds.field("former_customer_id").is_valid() & ds.field("customer_id").is_valid()
    return {
        "events": Rows(clean_events.TABLE, find_customers, EVENTS, days_of_sessions, scan=True),
        "moved": Rows(clean_events.TABLE, "former_customer_id", EVENTS, days_of_sessions, where=is_moved),
        "orders": Rows(clean_orders.TABLE, "customer_id", ORDERS, due, scan=True),
        "returns": Rows(clean_returns.TABLE, "customer_id", RETURNS, due, scan=True),
    }


def _split_days(days: Collection[date], rows_per_day: Counter) -> Iterator[list[date]]:
    """Yield the days in portions that a worker holds, or of a single day."""
    portion: list[date] = []
    for day in sorted(days):
        if portion and count_buckets(sum(rows_per_day[d] for d in (*portion, day)) // BUCKET_SIZE) > 1:
            yield portion
            portion = []
        portion.append(day)
    if portion:
        yield portion


def _after(day: date, days: int) -> date:
    return day + timedelta(days=days)
