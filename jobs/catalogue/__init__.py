"""The feature catalogue: what each feature is, in words and as a declaration; SQL, column comments and docs follow."""

from jobs.catalogue.aggregates import (
    DAILY_AGGREGATES,
    HISTOGRAM,
    HISTOGRAM_DAYS,
    HOLIDAY_LEAD_DAYS,
    MONEY,
    SEARCH_HIT_MINUTES,
    SOURCES,
    DailyAggregate,
    WindowedAggregate,
)
from jobs.catalogue.expressions import Expression
from jobs.catalogue.features import ATTRIBUTES, FEATURES, VECTOR, Attribute, Feature, windowed_aggregates
from jobs.catalogue.page import as_markdown
from jobs.catalogue.wording import describe_feature

__all__ = [
    "ATTRIBUTES",
    "DAILY_AGGREGATES",
    "FEATURES",
    "HISTOGRAM",
    "HISTOGRAM_DAYS",
    "HOLIDAY_LEAD_DAYS",
    "MONEY",
    "SEARCH_HIT_MINUTES",
    "SOURCES",
    "VECTOR",
    "Attribute",
    "DailyAggregate",
    "Expression",
    "Feature",
    "WindowedAggregate",
    "as_markdown",
    "describe_feature",
    "windowed_aggregates",
]
