"""Money in minor units, whole ten-thousandths, while it is added up.

A sum over DECIMAL(18,4) has more digits than a machine word holds, which makes Spark add several times slower.
"""

from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs import catalogue

_SCALE = 4


def to_minor_units(value: Column) -> Column:
    """Return DECIMAL(18,4), or a whole number, in ten-thousandths as BIGINT. Exact; Spark raises an error beyond it."""
    return (value * 10**_SCALE).cast("bigint")


def from_minor_units(ten_thousandths: Column) -> Column:
    """Return ten-thousandths as DECIMAL(18,4)."""
    return (ten_thousandths.cast("DECIMAL(19,0)") * F.lit(Decimal(1).scaleb(-_SCALE))).cast(catalogue.MONEY)


def to_summand(daily: catalogue.DailyAggregate, value: Column) -> Column:
    """Return a value as the aggregate adds it up: money in ten-thousandths where it is summed."""
    return to_minor_units(value) if _is_sum_of_money(daily) else value


def from_sum(daily: catalogue.DailyAggregate, aggregate: Column) -> Column:
    """Return an aggregate of summands in the unit of its column."""
    return from_minor_units(aggregate) if _is_sum_of_money(daily) else aggregate


def _is_sum_of_money(daily: catalogue.DailyAggregate) -> bool:
    return daily.operation == "sum" and daily.sql_type == catalogue.MONEY
