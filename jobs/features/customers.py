"""features.customers: one row per customer known by the day, customers without any order or event included.

Inputs: features.customer_days, clean.customers. A row uses only what was known by its day, also of who a visitor was. Accounts
that are part of another one on the day (merged_into) have no row: what they did is what that account did. Nor have customer
ids that guests share by then.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import partial

import pyarrow as pa

from jobs import business_day, catalogue
from jobs.catalogue import DailyAggregate, WindowedAggregate
from jobs.clean import customers as clean_customers
from jobs.config.settings import Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Write
from jobs.errors import UserError
from jobs.features import customer_days
from jobs.features._accounts import Accounts, merge_rows, read_accounts
from jobs.features._query import BUCKET_SIZE, SCAN_SIZE, run_steps
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, Scan
from jobs.storage.table import Table

_FIXED = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'as of the end of this day, in the business time zone',
    is_active BOOLEAN NOT NULL COMMENT 'any event or order in the last dormant_days days; else dormant',
    first_known_day DATE NOT NULL COMMENT 'registered or first seen',
    first_seen_day DATE COMMENT 'first day with an event, order (cancelled ones too) or return',
    last_seen_day DATE COMMENT 'last day with an event or order (cancelled ones too)',
    first_order_day DATE COMMENT 'first day with an order, cancelled ones left out',
    last_order_day DATE COMMENT 'last day with an order, cancelled ones left out'"""


def _comment(feature: catalogue.Feature) -> str:
    text = f"{feature.meaning} ({feature.unit}; {feature.missing})".replace("'", "")
    return f"{feature.name} {feature.sql_type} COMMENT '{text}'"


SCHEMA = ",\n    ".join(
    [
        _FIXED,
        *(f"{a.name} STRING COMMENT '{a.meaning}'" for a in catalogue.ATTRIBUTES),
        *map(_comment, catalogue.FEATURES),
        "vector ARRAY<FLOAT> NOT NULL COMMENT 'the features of the table property shoal.vector, in that order'",
    ]
)
TABLE = Table(
    "features.customers",
    __doc__.split("\n\n")[0],
    SCHEMA,
    "day",
    {"seen_by_day": "last_seen_day IS NULL OR last_seen_day <= day"},
)
_WINDOWED = catalogue.windowed_aggregates()
_SCALAR = [w for w in _WINDOWED if w.daily_aggregate.operation != "histogram"]
_HISTOGRAMS = list(dict.fromkeys(w.daily_aggregate.name for w in _WINDOWED if w.daily_aggregate.operation == "histogram"))
# The ages at which a window begins or ends.
_AGES = sorted({age for w in _SCALAR if w.days for age in (w.before, w.before + w.days)} - {0})
_SUMMED = list(dict.fromkeys(w.daily_aggregate for w in _SCALAR))
_OF_VISITS = [p for p in _SUMMED if p.source in ("event", "session", "search") or p.name == "active_days"]
_OF_SALES = [p for p in _SUMMED if p not in _OF_VISITS]
# Few days have an order or a return.
_SALES_HISTOGRAMS = [p.name for p in catalogue.DAILY_AGGREGATES if p.name in _HISTOGRAMS and p.source == "product"]
_IN_SALES = [*(p.name for p in _OF_SALES), *_SALES_HISTOGRAMS]
_SOLD = " OR ".join([*(f"{p.name} <> 0" for p in _OF_SALES), *(f"{name} IS NOT NULL" for name in _SALES_HISTOGRAMS)])
_DAYS_AT_ONCE = 3  # such as a day and those of the backtests
_FULL_DAYS = max(catalogue.HISTOGRAM_DAYS, *(w.before + w.days for w in _SCALAR if w.days))
_ACTED, _ORDERED = "events > 0 OR orders > 0 OR gross > 0", "orders > 0"  # who cancelled an order had acted
_SEEN = {
    "first_seen_day": f"min(day) FILTER ({_ACTED} OR returns > 0)",
    "last_seen_day": f"max(day) FILTER ({_ACTED})",
    "first_order_day": f"min(day) FILTER ({_ORDERED})",
    "last_order_day": f"max(day) FILTER ({_ORDERED})",
}
_KEYS = ("customer_id", "day", "identified_on", "known_until")
_OF_SEEN = ("events", "orders", "gross", "returns")
# The columns that the kernel reads of the days that a window may hold, and of those before.
RECENT = (*_KEYS, *dict.fromkeys((*_OF_SEEN, "order_days", *(w.daily_aggregate.name for w in _WINDOWED))))
OLDER = (*_KEYS, *dict.fromkeys((*_OF_SEEN, *(w.daily_aggregate.name for w in _SCALAR if w.days is None))))
RECORDS = ("customer_id", "day", "registered_at", "country")


def compute_features(
    tables: dict[str, pa.Table | Scan],
    days: Sequence[date],
    dormant_days: int,
    accounts: Mapping[date, Accounts] | None = None,
    time_zone: str = business_day.UTC,
) -> dict[str, pa.Table]:
    """Return features.customers as of each of a few days as `customers`.

    Key: customer. Inputs: `recent` and `older`, the columns RECENT and OLDER of features.customer_days: `recent` holds all
    days of a window, `older` all days before; `records`, RECORDS of clean.customers. Rows after the day are left out. `accounts`,
    where any is merged or shared, are those of each day. Sorted by day and customer. About 1.5 µs of CPU a row of `recent`, and
    15 µs a customer and day.
    """
    if accounts:
        merged = {day: merge_rows(tables, accounts[day], day) for day in days}
        return {"customers": pa.concat_tables([_compute_days(merged[day], [day], dormant_days, time_zone) for day in days])}
    return {"customers": _compute_days(tables, days, dormant_days, time_zone)}


def _compute_days(tables: dict[str, pa.Table | Scan], days: Sequence[date], dormant_days: int, time_zone: str) -> pa.Table:
    results = {f"customers_{n}": _result(n, day, dormant_days) for n, day in enumerate(days)}
    rows = run_steps(tables, write_steps(days, time_zone), results, views=("known_days",))
    return pa.concat_tables([rows[name] for name in results])


def write_steps(days: Sequence[date], time_zone: str = business_day.UTC) -> dict[str, str]:
    """Return the SQL of what the features of these days are made of, step by step, from the catalogue."""
    known_by = " + ".join(
        f"{1 << n} * (day <= DATE '{day}' AND identified_on <= DATE '{day}' AND known_until > DATE '{day}')::INT"
        for n, day in enumerate(days)
    )
    steps = {
        "known_days": f"SELECT * FROM (SELECT *, {known_by} AS known_by FROM recent) WHERE known_by > 0",  # noqa: S608
        "visits": _sum_spans("known_days", days, _OF_VISITS, _SEEN),
        "sold": f"SELECT customer_id, day, known_by, {', '.join(_IN_SALES)} FROM known_days WHERE {_SOLD}",  # noqa: S608
        "sales": _sum_spans("sold", days, _OF_SALES, {}),
        "before": f"SELECT * FROM (SELECT *, {known_by} AS known_by FROM older) WHERE known_by > 0",  # noqa: S608
        **{f"{name}_values": _values(name, days) for name in _HISTOGRAMS},
    }  # fmt: skip
    for n, day in enumerate(days):
        steps |= {
            f"lives_{n}": _lives(n),
            f"visit_windows_{n}": _windows("visits", _OF_VISITS, n, days),
            f"sale_windows_{n}": _windows("sales", _OF_SALES, n, days),
            **{f"{name}_sums_{n}": _histogram_sums(name, n, day) for name in _HISTOGRAMS},
            f"gaps_{n}": _gaps(n, day),
            f"registered_{n}": _registered(day, time_zone),
        }
    return steps


def _result(n: int, day: date, dormant_days: int) -> str:
    """The rows of the n-th day: everyone known by it, in the order of their ids."""
    columns = ", ".join(name for name in TABLE.columns if name != "vector")
    # a decimal cast to FLOAT directly would be rounded twice
    vector = ", ".join(f"{name}::DOUBLE::FLOAT" for name in catalogue.VECTOR)
    return f"""WITH aggregates AS (
{_aggregates(n, day)}
), features AS (
{_features(day, dormant_days)}
)
SELECT {columns}, [{vector}] AS vector FROM features ORDER BY customer_id"""  # noqa: S608


def _ends(days: Sequence[date]) -> list[date]:
    """The last days of the spans, the newest first: a window of any of the days begins or ends with one."""
    return sorted({day - timedelta(days=age) for day in days for age in (0, *_AGES)}, reverse=True)


def _sum_spans(rows: str, days: Sequence[date], aggregates: list[DailyAggregate], more: dict[str, str]) -> str:
    """Daily aggregates by customer, the days that know them, and span: the number of _ends that are not before the day."""
    columns = ",\n    ".join([*map(_add_up, aggregates), *(f"{sql} AS {name}" for name, sql in more.items())])
    span = " + ".join(f"(day <= DATE '{end}')::INT" for end in _ends(days))
    return f"SELECT customer_id, known_by, {span} AS span,\n    {columns}\nFROM {rows} GROUP BY ALL"


def _add_up(aggregate: DailyAggregate) -> str:
    # sums of whole numbers are exact in DOUBLE up to 2^53, and take half the time of those of BIGINT
    value = f"{aggregate.name}::DOUBLE" if aggregate.sql_type == "BIGINT" else aggregate.name
    return f"{aggregate.operation}({value}) AS {aggregate.name}"


def _knows(n: int) -> str:
    return f"known_by & {1 << n} <> 0"


def _lives(n: int) -> str:
    """The days of _SEEN, and the sums over all days."""
    lifelong = [w for w in _SCALAR if w.days is None]
    older = [*(f"{sql} AS {name}" for name, sql in _SEEN.items()), *(_add_up(w.daily_aggregate) for w in lifelong)]
    columns = [f"{sql[:3]}({name}) AS {name}" for name, sql in _SEEN.items()]
    columns += [f"(sum({w.daily_aggregate.name}))::{w.daily_aggregate.sql_type} AS {w.column}" for w in lifelong]
    return f"""SELECT customer_id, {", ".join(columns)} FROM (
    SELECT customer_id, {", ".join(_SEEN)} FROM visits WHERE {_knows(n)}
    UNION ALL BY NAME
    SELECT customer_id, {", ".join(w.daily_aggregate.name for w in lifelong)} FROM sales WHERE {_knows(n)}
    UNION ALL BY NAME
    SELECT customer_id, {", ".join(older)} FROM before WHERE {_knows(n)} GROUP BY customer_id)
GROUP BY customer_id"""  # noqa: S608


def _windows(sums: str, aggregates: list[DailyAggregate], n: int, days: Sequence[date]) -> str:
    """The windowed aggregates of these daily aggregates for the n-th day, out of their sums by span."""
    columns = ",\n    ".join(_window(w, days[n], _ends(days)) for w in _SCALAR if w.days and w.daily_aggregate in aggregates)
    return f"SELECT customer_id,\n    {columns}\nFROM {sums} WHERE {_knows(n)} GROUP BY customer_id"


def _window(windowed: WindowedAggregate, day: date, ends: list[date]) -> str:
    daily = windowed.daily_aggregate
    last = day - timedelta(days=windowed.before)
    spans = f"span > {ends.index(last)} AND span <= {ends.index(last - timedelta(days=windowed.days))}"
    # a CASE takes half the time of a FILTER
    return f"({windowed.operation}(CASE WHEN {spans} THEN {daily.name} END))::{daily.sql_type} AS {windowed.column}"


def _values(name: str, days: Sequence[date]) -> str:
    """Every value of a histogram, with its amounts together and the day when it came last, for each of the days."""
    first = min(days) - timedelta(days=catalogue.HISTOGRAM_DAYS)
    columns = []
    for n, day in enumerate(days):
        is_read = f"{_knows(n)} AND day > DATE '{day - timedelta(days=catalogue.HISTOGRAM_DAYS)}'"
        columns.append(f"max(CASE WHEN {is_read} THEN day END) AS last_{n}")
        columns.append(f"sum(CASE WHEN {is_read} THEN entry.amount END) AS amount_{n}")
    rows = "sold" if name in _SALES_HISTOGRAMS else "known_days"
    return f"""SELECT customer_id, entry.thing AS thing, {", ".join(columns)}
FROM (SELECT customer_id, day, known_by, unnest({name}) AS entry
    FROM {rows} WHERE {name} IS NOT NULL AND day > DATE '{first}')
GROUP BY ALL"""  # noqa: S608


def _histogram_sums(name: str, n: int, day: date) -> str:
    """The windowed aggregates of a histogram for the n-th day."""
    columns = ",\n    ".join(f"{_of_histogram(w)} AS {w.column}" for w in _WINDOWED if w.daily_aggregate.name == name)
    return f"""SELECT customer_id,
    {columns}
FROM (SELECT customer_id, thing, amount_{n} AS amount, DATE '{day}' - last_{n} AS age FROM {name}_values
    WHERE last_{n} IS NOT NULL)
GROUP BY customer_id"""  # noqa: S608


def _of_histogram(windowed: WindowedAggregate) -> str:
    return {
        "count_distinct": f"count(*) FILTER (age < {windowed.days})",
        "largest_amount": f"max(amount)::{catalogue.MONEY}",
        "total_amount": f"sum(amount)::{catalogue.MONEY}",
        "entropy": _ENTROPY,
        "mode": "arg_min(thing, (-amount, thing))",
    }[windowed.operation]


# Of shares p = a / sum(a): -sum(p ln p) = ln(sum(a)) - sum(a ln a) / sum(a); exactly 0 for one share. The sums are of decimals:
# sums of doubles would depend on the order of the rows.
_ENTROPY = """CASE count(*) FILTER (amount > 0) WHEN 1 THEN 0 ELSE greatest(0, ln((sum(amount) FILTER (amount > 0))::DOUBLE)
        - (sum((amount::DOUBLE * ln(amount::DOUBLE))::DECIMAL(38, 15)) FILTER (amount > 0))::DOUBLE
        / (sum(amount) FILTER (amount > 0))::DOUBLE) END"""


def _gaps(n: int, day: date) -> str:
    """Days between one day with an order and the next."""
    return f"""SELECT customer_id, count(gap) AS gap_count, sum(gap) AS gap_days, sum(gap * gap) AS gap_squares,
    max(gap) AS gap_longest
FROM (
    SELECT customer_id, day - lag(day) OVER (PARTITION BY customer_id ORDER BY day) AS gap
    FROM sold WHERE {_knows(n)} AND order_days > 0 AND day > DATE '{day - timedelta(days=_FULL_DAYS)}')
GROUP BY customer_id"""  # noqa: S608


def _registered(day: date, time_zone: str) -> str:
    """Customers with a record by the day: their newest country, and since when they are known."""
    registered_on = f"{business_day.to_local_sql('registered_at', time_zone)}::DATE"
    return f"""SELECT customer_id, arg_max_null(country, day) AS country,
    min(least({registered_on}, CASE WHEN day > DATE '1970-01-01' THEN day END)) AS registered_day
FROM records WHERE day <= DATE '{day}'
GROUP BY customer_id HAVING coalesce(registered_day <= DATE '{day}', true)"""  # noqa: S608


def _aggregates(n: int, day: date) -> str:
    """Everyone known by the day, with the columns that the expressions of features name."""
    zeros = ", ".join(f"coalesce({w.column}, 0) AS {w.column}" for w in _WINDOWED if w.operation in ("sum", "count_distinct"))
    steps = ("visit_windows", "sale_windows", *(f"{name}_sums" for name in _HISTOGRAMS), "gaps")
    joins = "\n    ".join(f"LEFT JOIN {name}_{n} USING (customer_id)" for name in steps)
    return f"""SELECT * REPLACE ({zeros}), DATE '{day}' AS day,
    coalesce(least(registered_day, first_seen_day), DATE '{day}') AS first_known_day
FROM lives_{n} FULL JOIN registered_{n} USING (customer_id)
    {joins}"""  # noqa: S608


def _features(day: date, dormant_days: int) -> str:
    """The features and attributes, from their expressions."""
    values = [f"({f.expression.to_sql(as_double=f.sql_type == 'DOUBLE')})::{f.sql_type} AS {f.name}" for f in catalogue.FEATURES]
    values += [f"{a.expression.to_sql()} AS {a.name}" for a in catalogue.ATTRIBUTES if a.expression.to_sql() != a.name]
    columns = ",\n    ".join(values)
    return f"""SELECT *, coalesce(last_seen_day > DATE '{day - timedelta(days=dormant_days)}', false) AS is_active,
    {columns}
FROM aggregates"""  # noqa: S608


def run(lake: Lake, settings: Settings, days: Sequence[date]) -> None:
    """Write the customers as of each of `days`; raises UserError where none is known."""
    for first in range(0, len(days), _DAYS_AT_ONCE):
        _write_days(lake, settings, days[first : first + _DAYS_AT_ONCE])


def _write_days(lake: Lake, settings: Settings, days: Sequence[date]) -> None:
    """Write the customers as of these days out of one reading."""
    stored = lake.days(customer_days.TABLE.name)
    first = min(days) - timedelta(days=_FULL_DAYS)
    recent = [day for day in stored if first < day <= max(days)]
    older = [day for day in stored if day <= first]
    n_recent, n_older = (lake.count_rows(customer_days.TABLE.name, set(part)) for part in (recent, older))
    n_rows = n_recent + n_older * len(OLDER) // len(RECENT)
    key, accounts = read_accounts(lake, days)
    is_plain = not accounts  # else the rows are changed before they are added up
    opened = lake.open_for_write(TABLE)
    with open_runner(lake, settings, n_rows) as runner:
        inputs = runner.read(
            {
                "recent": Rows(customer_days.TABLE, key, RECENT, recent, scan=is_plain),
                "older": Rows(customer_days.TABLE, key, OLDER, older, scan=is_plain),
                "records": Rows(clean_customers.TABLE, key, RECORDS, scan=is_plain),
            },
            count_buckets(n_rows // (SCAN_SIZE if is_plain and runner.name == "local" else BUCKET_SIZE)),
        )
        kernel = partial(
            compute_features, days=days, dormant_days=settings.features.dormant_days, accounts=accounts,
            time_zone=settings.business_time_zone,
        )  # fmt: skip
        files = runner.run(kernel, inputs, {"customers": Write(TABLE, gather=True)}).files["customers"]
    written = {file.partition["day"] for file in files}
    if missing := [day for day in days if str(day) not in written]:
        raise UserError(f"features: no customer is known on {missing[0]}; check the mapping's customer_id")
    opened.commit(files, days)
    lake.set_property(TABLE, "shoal.vector", json.dumps(catalogue.VECTOR))
    lake.set_property(TABLE, "shoal.attributes", json.dumps([a.name for a in catalogue.ATTRIBUTES]))
