"""The SQL of features.customer_days, made from the catalogue, and the columns of the clean tables that it reads."""

from jobs import business_day, catalogue
from jobs.business_day import FOREVER
from jobs.catalogue import DailyAggregate
from jobs.clean import events as clean_events
from jobs.clean import orders as clean_orders
from jobs.features._query import find_columns

_KEYS = "customer_id, day, identified_on, known_until"
_SCALAR = [p for p in catalogue.DAILY_AGGREGATES if p.operation != "histogram"]
HISTOGRAMS = [p for p in catalogue.DAILY_AGGREGATES if p.operation == "histogram"]


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


def write_steps(time_zone: str = business_day.UTC) -> dict[str, str]:
    """Return the SQL of the daily aggregates step by step, made from the catalogue. Hours are those of `time_zone`."""
    return {
        "shared_events": "FROM events WHERE shared_since IS NOT NULL",
        "known_events": _known_events(time_zone),
        "session_parts": _session_parts(time_zone),
        "split_sessions": _SPLIT_SESSIONS,
        "split_parts": f"FROM session_parts SEMI JOIN split_sessions USING ({_SESSION})",
        "session_states": _session_states(),
        "searches": _searches(),
        "stretches": _STRETCHES,
        "hits": _HITS,
        "visits": _visits(),
        "sold_lines": _SOLD_LINES,
        "cancelled": _cancelled(time_zone),
        "lines": _LINES,
        "orders_summed": _orders_summed(time_zone),
        "order_stretches": _ORDER_STRETCHES,
        "changed_days": _CHANGED_DAYS,
        "order_days": _ORDER_DAYS,
        "return_lines": _RETURN_LINES,
        "sales": _sales(),
        "scalars": _scalars(),
        "rows_of_day": _ROWS_OF_DAY,
        "value_counts": _value_counts(),
    }


def write_results() -> dict[str, str]:
    """Return the queries of the rows with the lengths of their histograms, and of the values of each in the order of the rows."""
    of_row = ", ".join(f"({p.sql})::{p.sql_type} AS {p.name}" for p in _of_source("row"))
    lengths = ", ".join(f"(nullif(count(*) FILTER (histogram = '{p.name}'), 0))::INT AS n_{p.name}" for p in HISTOGRAMS)
    in_order = "ORDER BY day, customer_id, identified_on, known_until"
    rows = f"""SELECT *, {of_row} FROM scalars LEFT JOIN rows_of_day USING ({_KEYS})
    LEFT JOIN (SELECT {_KEYS}, {lengths} FROM value_counts GROUP BY {_KEYS}) USING ({_KEYS})
{in_order}"""  # noqa: S608
    values = {
        p.name: f"SELECT thing, amount FROM value_counts WHERE histogram = '{p.name}' {in_order}, thing"  # noqa: S608
        for p in HISTOGRAMS
    }
    return {"customer_days": rows, **values}


def _known_events(time_zone: str) -> str:
    """Events with a customer, and from when until when they were known to be theirs: before and after a change."""
    columns = ", ".join(
        [
            *(name for name in EVENTS if name not in ("customer_id", "identified_on")),
            f"{business_day.to_local_sql('event_at', time_zone)} AS local_at",
        ]
    )
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


def _session_parts(time_zone: str) -> str:
    """Per session: its events of one day that were known together."""
    return f"""SELECT {_KEYS}, session_id, {business_day.to_local_sql("session_started_at", time_zone)}::DATE AS began,
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


def _same_values(left: str, right: str, columns: str) -> str:
    """The condition that two tables have the same values, or nulls, in these columns."""
    return " AND ".join(f"{left}.{name} IS NOT DISTINCT FROM {right}.{name}" for name in columns.split(", "))


# Lines with pieces, from when until when their version holds; rows of an older lake have one version.
_SOLD_LINES = f"""SELECT * EXCLUDE (known_from, known_until), greatest(day, known_from) AS identified_on,
    coalesce(known_until, DATE '{FOREVER}') AS version_until
FROM orders WHERE customer_id IS NOT NULL AND quantity > 0"""  # noqa: S608
_ORDER = "customer_id, day, identified_on, version_until, shop, order_id"


def _cancelled(time_zone: str) -> str:
    """Versions of orders of which all products were cancelled, and on which day."""
    returned_at = business_day.to_local_sql("returned_at", time_zone)
    return f"""SELECT {_ORDER}, max(CASE WHEN line_kind = 'product' THEN {returned_at}::DATE END) AS cancelled_on
FROM sold_lines GROUP BY {_ORDER}
HAVING bool_and(line_kind <> 'product' OR status = 'cancelled') AND cancelled_on IS NOT NULL"""  # noqa: S608


_LINES = f"""SELECT sold_lines.*, least(sold_lines.version_until, cancelled_on) AS known_until
FROM sold_lines LEFT JOIN cancelled ON {_same_values("sold_lines", "cancelled", _ORDER)}"""  # noqa: S608


def _orders_summed(time_zone: str) -> str:
    """Each version of an order, until all its products are cancelled and to its own end where that differs: `counts_until`."""
    local_at = business_day.to_local_sql("ordered_at", time_zone)
    return f"""SELECT *, {local_at} AS local_at, unnest(list_distinct([known_until, version_until])) AS counts_until,
    day IN (FROM holidays) AS before_holiday
FROM (
    SELECT {_ORDER}, known_until,
        {_aggregate_rows("line")},
        {_aggregate_rows("product", "line_kind = 'product'")},
        bool_or(line_kind <> 'discount') AS is_order, min(ordered_at) AS ordered_at,
        sum(gross_amount) AS gross_amount, sum(discount_amount) AS discount_amount
    FROM lines GROUP BY ALL)"""  # noqa: S608


# From when until when a customer had any order on a day; most days have one such stretch.
_ORDER_STRETCHES = f"""SELECT DISTINCT {_KEYS} FROM orders_summed
WHERE is_order AND counts_until = known_until AND known_until > identified_on"""  # noqa: S608
_CHANGED_DAYS = "SELECT customer_id, day FROM order_stretches GROUP BY ALL HAVING count(*) > 1"
# The same, each day of a stretch in one of them only.
_ORDER_DAYS = f"""SELECT {_KEYS} FROM order_stretches ANTI JOIN changed_days USING (customer_id, day)
UNION ALL
SELECT customer_id, day, min(identified_on), max(known_until) FROM (
    SELECT *, sum(begins) OVER (PARTITION BY customer_id, day ORDER BY identified_on, known_until) AS stretch
    FROM (
        SELECT *, coalesce(identified_on >= max(known_until) OVER (PARTITION BY customer_id, day
            ORDER BY identified_on, known_until ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true)::INT AS begins
        FROM order_stretches SEMI JOIN changed_days USING (customer_id, day)))
GROUP BY customer_id, day, stretch"""  # noqa: S608

_RETURN_LINES = """SELECT customer_id, day, shop, return_order_id, return_line_no, sum(amount) AS amount, max(kind) AS kind
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
    sources = ("line", "product", "order", "order_day", "return")
    merged = ",\n    ".join(_merge_aggregate(p) for p in _SCALAR if p.source in sources)
    to_its_end, until = "counts_until = version_until", "counts_until = known_until"
    return f"""SELECT {_KEYS},
    {merged}
FROM (
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
    FROM return_lines)
WHERE day IN (FROM due) GROUP BY {_KEYS}"""  # noqa: S608


def _scalars() -> str:
    """The numbers of a row, but for those that are made of others of the row."""
    scalars = ",\n    ".join(_fill_scalar(p) for p in _SCALAR if p.source != "row")
    return f"SELECT {_KEYS},\n    {scalars}\nFROM visits FULL JOIN sales USING ({_KEYS})"


# What the rows of a customer and day say of each other, where there are several with events.
_ROWS_OF_DAY = f"""SELECT {_KEYS}, max(known_until) OVER (PARTITION BY customer_id, day ORDER BY identified_on, known_until DESC
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS events_until
FROM scalars SEMI JOIN (
    SELECT customer_id, day FROM scalars WHERE events > 0 GROUP BY ALL HAVING count(*) > 1) USING (customer_id, day)
WHERE events > 0"""  # noqa: S608


def _value_counts() -> str:
    """The values of all histograms with their amounts. Whoever has a value has the event or the order that it is of."""
    rows = {"event": "known_events WHERE", "product": "lines WHERE line_kind = 'product' AND known_until > identified_on AND"}
    return "\nUNION ALL\n".join(
        f"""SELECT {_KEYS}, '{p.name}' AS histogram, {p.sql} AS thing, sum({p.amount})::{catalogue.MONEY} AS amount
FROM {rows[p.source]} day IN (FROM due) AND ({p.sql}) IS NOT NULL GROUP BY ALL"""  # noqa: S608
        for p in HISTOGRAMS
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
