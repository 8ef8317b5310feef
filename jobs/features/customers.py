"""features.customers: one row per customer known by the day, customers without any order or event included.

Inputs: features.customer_days, clean.customers. A row uses only what was known by its day, also of who a visitor was.
"""

import json
from datetime import date, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs import catalogue
from jobs.catalogue import Expression, WindowedAggregate
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.features import customer_days
from jobs.features._minor_units import from_minor_units, from_sum, to_minor_units, to_summand
from jobs.storage.lake import Lake
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
_OF_HISTOGRAMS = [w for w in _WINDOWED if w.daily_aggregate.operation == "histogram"]
# ages, in days, at which a window begins or ends
_EDGES = sorted({age for w in _SCALAR if w.days for age in (w.before, w.before + w.days) if age})
_FULL_DAYS = max(_EDGES[-1], catalogue.HISTOGRAM_DAYS)
_ACTED, _ORDERED = "events > 0 OR orders > 0 OR gross > 0", "orders > 0"  # who cancelled an order had acted
_SEEN = {
    "first_seen_day": ("min", f"{_ACTED} OR returns > 0"),
    "last_seen_day": ("max", _ACTED),
    "first_order_day": ("min", _ORDERED),
    "last_order_day": ("max", _ORDERED),
}


def customers(days: DataFrame, known: DataFrame, day: date, dormant_days: int) -> DataFrame:
    """features.customers of one day out of features.customer_days and clean.customers, both of any length."""
    seen = days.where((F.col("day") <= day) & (F.col("identified_on") <= day) & (F.col("known_until") > day))
    recent, older = seen.where(F.col("day") > _back(day, _FULL_DAYS)), seen.where(F.col("day") <= _back(day, _FULL_DAYS))
    recent = recent.withColumn("age", F.datediff(F.lit(day), "day"))
    # whoever has a histogram or a gap has sums
    summed = _sums(recent, older).join(_histograms(recent), "customer_id", "left").join(_gaps(recent), "customer_id", "left")
    zeros = {w.column: F.coalesce(w.column, F.lit(0)) for w in _WINDOWED if w.operation in ("sum", "count_distinct")}
    everyone = (
        summed.join(_registered(known, day), "customer_id", "full")
        .withColumns(zeros)
        .withColumn("first_known_day", F.coalesce(F.least("registered_day", "first_seen_day"), F.lit(day)))
        .withColumn("day", F.lit(day))
    )
    active = F.coalesce(F.col("last_seen_day") > _back(day, dormant_days), F.lit(False))
    values = {f.name: _value(f.expression, f.sql_type) for f in catalogue.FEATURES}
    attributes = {a.name: F.expr(a.expression.to_sql()) for a in catalogue.ATTRIBUTES}
    with_features = everyone.withColumns({**values, **attributes, "is_active": active})
    vector = F.array(*(F.col(name).cast("float") for name in catalogue.VECTOR))
    return with_features.withColumn("vector", vector).select(*TABLE.columns)


def _back(day: date, days: int) -> date:
    return day - timedelta(days=days)


def _value(expression: Expression, sql_type: str) -> Column:
    return F.expr(expression.to_sql(as_double=sql_type == "DOUBLE")).cast(sql_type)


def _sums(recent: DataFrame, older: DataFrame) -> DataFrame:
    """The windowed aggregates that are numbers, and the days of `_SEEN`.

    First by customer and span of ages between two edges, with plain sums, then the spans are put together to windows:
    hundreds of conditional sums over all days are many times slower. Of older days only what lasts for life is read.
    """
    aggregates = {w.daily_aggregate.name: w.daily_aggregate for w in _SCALAR}
    lifelong = {w.daily_aggregate.name: w.daily_aggregate for w in _SCALAR if w.days is None}
    of_span = recent.withColumn("_span", reduce(lambda c, e: c.when(F.col("age") < e, e), _EDGES, F).otherwise(_FULL_DAYS + 1))
    spans = of_span.groupBy("customer_id", "_span").agg(*_plain(aggregates), *_seen_days())
    rest = older.withColumn("_span", F.lit(_FULL_DAYS + 1)).groupBy("customer_id", "_span").agg(*_plain(lifelong), *_seen_days())
    return (
        spans.unionByName(rest, allowMissingColumns=True)
        .groupBy("customer_id")
        .agg(*map(_window, _SCALAR), *(getattr(F, how)(name).alias(name) for name, (how, _) in _SEEN.items()))
    )


def _plain(aggregates: dict[str, catalogue.DailyAggregate]) -> list[Column]:
    return [getattr(F, a.operation)(to_summand(a, F.col(a.name))).alias(a.name) for a in aggregates.values()]


def _seen_days() -> list[Column]:
    return [getattr(F, how)(F.when(F.expr(condition), F.col("day"))).alias(name) for name, (how, condition) in _SEEN.items()]


def _window(windowed: WindowedAggregate) -> Column:
    value = F.col(windowed.daily_aggregate.name)
    if windowed.days:
        end = windowed.before + windowed.days
        value = F.when((F.col("_span") > windowed.before) & (F.col("_span") <= end), value)
    # here, where it is worked out once: in the features' own projection it would be again for each that uses it
    return from_sum(windowed.daily_aggregate, getattr(F, windowed.operation)(value)).alias(windowed.column)


def _histograms(recent: DataFrame) -> DataFrame:
    """The windowed aggregates of histograms: every value with its amounts together and the age at which it came last."""
    names = list(dict.fromkeys(w.daily_aggregate.name for w in _OF_HISTOGRAMS))
    tagged = (F.transform(F.coalesce(name, F.array().cast(catalogue.HISTOGRAM)), _tagged(name)) for name in names)
    values = recent.where(" OR ".join(f"{name} IS NOT NULL" for name in names)).select(
        "customer_id", "age", F.inline(F.concat(*tagged))
    )
    amount = F.sum(to_minor_units(F.col("amount")))
    each = values.groupBy("customer_id", "histogram", "thing").agg(F.min("age").alias("age"), amount.alias("amount"))
    return each.groupBy("customer_id").agg(*map(_of_histogram, _OF_HISTOGRAMS))


def _tagged(name: str):
    return lambda entry: F.struct(F.lit(name).alias("histogram"), entry.thing.alias("thing"), entry.amount.alias("amount"))


def _of_histogram(windowed: WindowedAggregate) -> Column:
    ours, amount = F.col("histogram") == windowed.daily_aggregate.name, F.col("amount")
    paid = F.when(ours & (amount > 0), amount.cast("double"))
    result = {
        "count_distinct": lambda: F.count_if(ours & (F.col("age") < windowed.days)),
        "largest_amount": lambda: from_minor_units(F.max(F.when(ours, amount))),
        "total_amount": lambda: from_minor_units(F.sum(F.when(ours, amount))),
        # of shares p = a / sum(a): -sum(p ln p) = ln(sum(a)) - sum(a ln a) / sum(a)
        "entropy": lambda: _not_below_zero(F.ln(F.sum(paid)) - F.sum(paid * F.ln(paid)) / F.sum(paid)),
        "mode": lambda: F.min(F.when(ours, F.struct(-amount, "thing")))["thing"],
    }
    return result[windowed.operation]().alias(windowed.column)


def _not_below_zero(value: Column) -> Column:
    return F.when(value < 0, 0.0).otherwise(value)


def _gaps(recent: DataFrame) -> DataFrame:
    """Days between one day with an order and the next."""
    in_order = Window.partitionBy("customer_id").orderBy("day")
    ordered = recent.where("order_days > 0").select("customer_id", "day")
    gap = F.datediff("day", F.lag("day").over(in_order)).cast("bigint")
    return (
        ordered.withColumn("gap", gap)
        .groupBy("customer_id")
        .agg(
            F.count("gap").alias("gap_count"),
            F.sum("gap").alias("gap_days"),
            F.sum(F.col("gap") * F.col("gap")).alias("gap_squares"),
            F.max("gap").alias("gap_longest"),
        )
    )


def _registered(known: DataFrame, day: date) -> DataFrame:
    """Customers with a record by the day: their newest country, and since when they are known."""
    registered = F.least(F.to_date("registered_at"), F.when(F.col("day") > F.lit("1970-01-01").cast("date"), F.col("day")))
    return (
        known.where(F.col("day") <= day)
        .groupBy("customer_id")
        .agg(F.max_by("country", "day").alias("country"), F.min(registered).alias("registered_day"))
        .where(F.coalesce(F.col("registered_day") <= day, F.lit(True)))
    )


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Write the customers as of `day`; raises UserError where none is known."""
    lake.set_shuffle_partitions(lake.count_rows(customer_days.TABLE.name))
    frame = customers(lake.read(customer_days.TABLE), lake.read("clean.customers"), day, settings.features.dormant_days)
    rows = lake.replace_days(TABLE, frame, [day])
    if not rows:
        raise UserError(f"features: no customer is known on {day}; check the mapping's customer_id")
    lake.set_property(TABLE, "shoal.vector", json.dumps(catalogue.VECTOR))
    lake.set_property(TABLE, "shoal.attributes", json.dumps([a.name for a in catalogue.ATTRIBUTES]))
