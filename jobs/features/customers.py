"""features.customers: one row per customer known by the day, customers without any order or event included.

Inputs: features.customer_days, clean.customers. A row uses only what was known by its day, also of who a visitor was. Accounts
that are part of another one on the day (merged_into) have no row: what they did is what that account did. Nor have customer
ids that guests share by then.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from functools import partial

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from jobs import account_merges, catalogue
from jobs.catalogue import WindowedAggregate
from jobs.clean import customers as clean_customers
from jobs.clean import identity_alarms as clean_identity_alarms
from jobs.config.settings import Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Write
from jobs.errors import UserError
from jobs.features import customer_days
from jobs.features._query import BUCKET_SIZE, run_steps
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows
from jobs.storage.table import Table

_FIXED = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'as of the end of this day, UTC',
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
_ONCE_A_DAY = ("active_days", "order_days")  # aggregates that are 1 on one row of a customer's day


def compute_features(
    tables: dict[str, pa.Table],
    day: date,
    dormant_days: int,
    owners: Mapping[str, str] | None = None,
    shared: Collection[str] = (),
) -> dict[str, pa.Table]:
    """Return features.customers as of `day` as `customers`.

    Key: customer. Inputs: `recent` and `older`, the columns RECENT and OLDER of features.customer_days: `recent` holds all
    days of a window, `older` all days before; `records`, RECORDS of clean.customers. Rows after the day are left out. `owners`
    says which account an account is part of on the day. Sorted by customer. About 5 µs of CPU a row of `recent`, and 10 µs a
    customer.
    """
    if shared:
        is_person = pc.invert(pc.is_in(tables["records"]["customer_id"], pa.array(sorted(shared), pa.string())))
        tables = {**tables, "records": tables["records"].filter(is_person)}
    if owners:
        tables = {name: _merge_accounts(rows, owners, day, is_record=name == "records") for name, rows in tables.items()}
    return {"customers": run_steps(tables, write_steps(day), _result(day, dormant_days), views=("known_days", "all_days"))}


def find_account(rows: pa.Table, accounts: Mapping[str, str]) -> pa.Array:
    """Return a name that all rows of accounts have that are part of each other at any time: the key of compute_features."""
    return pl.Series(pl.from_arrow(rows["customer_id"])).replace(accounts).to_arrow()


def _merge_accounts(rows: pa.Table, owners: Mapping[str, str], day: date, is_record: bool) -> pa.Table:
    """Return the rows with those of an account that is part of another one as rows of that one.

    A day of both is one active day. The country of an account that is part of another says nothing of it.
    """
    frame = pl.DataFrame(pl.from_arrow(rows))
    concerned = pl.col("customer_id").is_in([*owners, *owners.values()])
    if is_record:
        is_part = pl.col("customer_id").is_in(list(owners))
        merged = frame.with_columns(country=pl.when(~is_part).then("country"), customer_id=pl.col("customer_id").replace(owners))
        return merged.select(rows.column_names).to_arrow().cast(rows.schema)
    is_known = (pl.col("day") <= day) & (pl.col("identified_on") <= day) & (pl.col("known_until") > day)
    merged = frame.filter(concerned & is_known).with_columns(pl.col("customer_id").replace(owners))
    names = [name for name in _ONCE_A_DAY if name in frame.columns]
    firsts = {
        name: pl.when(pl.col(name).cum_sum().over("customer_id", "day") == 1).then(name).otherwise(0).cast(frame.schema[name])
        for name in names
    }
    parts = [frame.filter(~concerned), merged.with_columns(**firsts)]
    return pl.concat(parts).to_arrow().cast(rows.schema)


def write_steps(day: date) -> dict[str, str]:
    """Return the SQL of what the features of a day are made of, step by step, from the catalogue."""
    is_known = f"day <= DATE '{day}' AND identified_on <= DATE '{day}' AND known_until > DATE '{day}'"
    return {
        "known_days": f"SELECT *, DATE '{day}' - day AS age FROM recent WHERE {is_known}",  # noqa: S608
        "all_days": f"SELECT {', '.join(OLDER)} FROM known_days UNION ALL SELECT {', '.join(OLDER)} FROM older WHERE {is_known}",  # noqa: S608
        "lives": _lives(),
        "windows": _windows(),
        **{f"{name}_values": _values(name) for name in _HISTOGRAMS},
        **{f"{name}_sums": _histogram_sums(name) for name in _HISTOGRAMS},
        "gaps": _GAPS,
        "registered": _registered(day),
    }


def _result(day: date, dormant_days: int) -> str:
    """The rows: everyone known by the day, in the order of their ids."""
    columns = ", ".join(name for name in TABLE.columns if name != "vector")
    # a decimal cast to FLOAT directly would be rounded twice
    vector = ", ".join(f"{name}::DOUBLE::FLOAT" for name in catalogue.VECTOR)
    return f"""WITH aggregates AS (
{_aggregates(day)}
), features AS (
{_features(day, dormant_days)}
)
SELECT {columns}, [{vector}] AS vector FROM features ORDER BY customer_id"""  # noqa: S608


def _lives() -> str:
    """The days of _SEEN, and the sums over all days."""
    columns = [f"{sql} AS {name}" for name, sql in _SEEN.items()]
    columns += [_window(w) for w in _SCALAR if w.days is None]
    return f"SELECT customer_id, {', '.join(columns)} FROM all_days GROUP BY customer_id"  # noqa: S608


def _windows() -> str:
    """The windowed aggregates that are numbers."""
    columns = ",\n    ".join(_window(w) for w in _SCALAR if w.days)
    return f"SELECT customer_id,\n    {columns}\nFROM known_days GROUP BY customer_id"


def _window(windowed: WindowedAggregate) -> str:
    daily, value = windowed.daily_aggregate, windowed.daily_aggregate.name
    if windowed.days:  # a CASE takes half the time of a FILTER
        value = f"CASE WHEN age >= {windowed.before} AND age < {windowed.before + windowed.days} THEN {value} END"
    return f"({windowed.operation}({value}))::{daily.sql_type} AS {windowed.column}"


def _values(name: str) -> str:
    """Every value of a histogram with its amounts together and the age at which it came last."""
    return f"""SELECT customer_id, entry.thing AS thing, min(age) AS age, sum(entry.amount) AS amount
FROM (SELECT customer_id, age, unnest({name}) AS entry FROM known_days WHERE age < {catalogue.HISTOGRAM_DAYS})
GROUP BY ALL"""  # noqa: S608


def _histogram_sums(name: str) -> str:
    """The windowed aggregates of a histogram."""
    ours = [w for w in _WINDOWED if w.daily_aggregate.name == name]
    columns = ",\n    ".join(f"{_of_histogram(w)} AS {w.column}" for w in ours)
    return f"SELECT customer_id,\n    {columns}\nFROM {name}_values GROUP BY customer_id"


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
# Days between one day with an order and the next.
_GAPS = f"""SELECT customer_id, count(gap) AS gap_count, sum(gap) AS gap_days, sum(gap * gap) AS gap_squares,
    max(gap) AS gap_longest
FROM (
    SELECT customer_id, day - lag(day) OVER (PARTITION BY customer_id ORDER BY day) AS gap
    FROM known_days WHERE order_days > 0 AND age < {_FULL_DAYS})
GROUP BY customer_id"""  # noqa: S608


def _registered(day: date) -> str:
    """Customers with a record by the day: their newest country, and since when they are known."""
    return f"""SELECT customer_id, arg_max_null(country, day) AS country,
    min(least(registered_at::DATE, CASE WHEN day > DATE '1970-01-01' THEN day END)) AS registered_day
FROM records WHERE day <= DATE '{day}'
GROUP BY customer_id HAVING coalesce(registered_day <= DATE '{day}', true)"""  # noqa: S608


def _aggregates(day: date) -> str:
    """Everyone known by the day, with the columns that the expressions of features name."""
    zeros = ", ".join(f"coalesce({w.column}, 0) AS {w.column}" for w in _WINDOWED if w.operation in ("sum", "count_distinct"))
    histograms = " ".join(f"LEFT JOIN {name}_sums USING (customer_id)" for name in _HISTOGRAMS)
    return f"""SELECT * REPLACE ({zeros}), DATE '{day}' AS day,
    coalesce(least(registered_day, first_seen_day), DATE '{day}') AS first_known_day
FROM lives FULL JOIN registered USING (customer_id)
    LEFT JOIN windows USING (customer_id) {histograms} LEFT JOIN gaps USING (customer_id)"""  # noqa: S608


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
    stored = lake.days(customer_days.TABLE.name)
    first = min(days) - timedelta(days=_FULL_DAYS)
    recent = [day for day in stored if first < day <= max(days)]
    older = [day for day in stored if day <= first]
    n_recent, n_older = (lake.count_rows(customer_days.TABLE.name, set(part)) for part in (recent, older))
    n_rows = n_recent + n_older * len(OLDER) // len(RECENT)
    versions = lake.read_arrow(clean_customers.TABLE, ["customer_id", "day", "merged_into"])
    merges = account_merges.find_owners(pl.DataFrame(pl.from_arrow(versions)))
    accounts = account_merges.group_accounts(merges)
    alarms = lake.read_small_table(clean_identity_alarms.TABLE)
    key = partial(find_account, accounts=accounts) if accounts else "customer_id"
    with open_runner(lake, settings, n_rows) as runner:
        inputs = runner.read(
            {
                "recent": Rows(customer_days.TABLE, key, RECENT, recent),
                "older": Rows(customer_days.TABLE, key, OLDER, older),
                "records": Rows(clean_customers.TABLE, key, RECORDS),
            },
            count_buckets(n_rows // BUCKET_SIZE),
        )
        for day in days:
            opened = lake.open_for_write(TABLE)
            owners = account_merges.find_owners_on(merges, day)
            shared = {alarm["id"] for alarm in alarms if alarm["rule"] == "shared_customer" and alarm["since"] <= day}
            dormant_days = settings.features.dormant_days
            kernel = partial(compute_features, day=day, dormant_days=dormant_days, owners=owners, shared=shared)
            written = runner.run(kernel, inputs, {"customers": Write(TABLE, gather=True)})
            if not opened.commit(written.files["customers"], [day]):
                raise UserError(f"features: no customer is known on {day}; check the mapping's customer_id")
            lake.set_property(TABLE, "shoal.vector", json.dumps(catalogue.VECTOR))
            lake.set_property(TABLE, "shoal.attributes", json.dumps([a.name for a in catalogue.ATTRIBUTES]))
