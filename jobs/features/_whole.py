"""Money as whole ten-thousandths while it is added up.

A sum over DECIMAL(18,4) has more digits than a machine word holds, which makes Spark add several times slower.
"""

from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs import catalogue

_SCALE = 4


def whole(value: Column) -> Column:
    """DECIMAL(18,4), or a whole number, in ten-thousandths: BIGINT. Exact; Spark raises an error beyond it."""
    return (value * 10**_SCALE).cast("bigint")


def money(ten_thousandths: Column) -> Column:
    """What `whole` was made from: DECIMAL(18,4)."""
    return (ten_thousandths.cast("DECIMAL(19,0)") * F.lit(Decimal(1).scaleb(-_SCALE))).cast(catalogue.MONEY)


def addend(daily: catalogue.DailyAggregate, value: Column) -> Column:
    """A value as it goes into the aggregate: of a sum of money, ten-thousandths."""
    return whole(value) if _is_sum_of_money(daily) else value


def aggregated(daily: catalogue.DailyAggregate, aggregate: Column) -> Column:
    """What an aggregate of addends stands for."""
    return money(aggregate) if _is_sum_of_money(daily) else aggregate


def _is_sum_of_money(daily: catalogue.DailyAggregate) -> bool:
    return daily.operation == "sum" and daily.sql_type == catalogue.MONEY
