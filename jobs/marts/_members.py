"""The customers of a day with their segment and what the marts say of them."""

from collections.abc import Sequence
from datetime import date

import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.errors import UserError
from jobs.storage.lake import Lake

CUSTOMER_COLUMNS = ("customer_id", "recency_days", "orders_365d", "net_365d", "tenure_days")
SEGMENT_COLUMNS = (
    "customer_id", "segment_id", "distance", "runner_up_id", "margin", "is_outlier", "model_version", "outlier_reason",
)  # fmt: skip


def members(lake: Lake, day: date, attributes: Sequence[str] = (), few: str | None = None) -> DataFrame:
    """CUSTOMER_COLUMNS of features.customers, its `attributes` as an array of that name, and SEGMENT_COLUMNS of
    segments.assignments, one row per customer; with `few`, of those alone for whom this SQL predicate on the latter holds.

    `vector` is null for dormant customers: they are in their segment by rule, and may be nineteen of twenty.
    Raises UserError where the day has no assignments.
    """
    assigned(lake, day)
    assignments = lake.read("segments.assignments", day, day).select(*SEGMENT_COLUMNS)
    customers = lake.read("features.customers", day, day).select(
        *CUSTOMER_COLUMNS,
        F.when(F.col("is_active"), F.col("vector")).alias("vector"),
        F.array(*(F.col(name) for name in attributes)).cast("array<string>").alias("attributes"),
    )
    # Few are sent to where the customers are read, who then need not be sorted to meet them.
    return customers.join(assignments if few is None else F.broadcast(assignments.where(few)), "customer_id", how="inner")


def assigned(lake: Lake, day: date) -> tuple[str, int]:
    """The model that `day` was assigned with, and its customers; raises UserError where the day has no assignments."""
    counted = lake.count_by("segments.assignments", ["model_version"], ds.field("day") == day)
    if not counted:
        raise UserError(f"publish: segments.assignments has no rows on {day}; run first: shoal segment --day {day}")
    return next(iter(counted))[0], sum(counted.values())


def names(lake: Lake, day: date) -> dict[int, str]:
    """The names of the day's segments by id."""
    version, _ = assigned(lake, day)
    of_model = ds.field("model_version") == version
    return {
        row["segment_id"]: row["name"] for row in lake.read_small_table("segments.definitions", ["segment_id", "name"], of_model)
    }


def history(lake: Lake, day: date) -> DataFrame:
    """segments.history; raises UserError where it is of a version without the segment before."""
    intervals = lake.read("segments.history")
    if "previous_segment_id" not in intervals.columns:
        raise UserError(
            f"publish: segments.history in {lake.root} has no column previous_segment_id; run first: shoal segment --day {day}"
        )
    return intervals


def days_to_publish(lake: Lake, name: str, day: date) -> list[date]:
    """The days of a table of changes that publishing `day` must write: itself, the known day after it, whose day before it is,
    and known days before it that were never published, so that what is published adds up.

    Raises UserError where the day has no assignments.
    """
    assigned(lake, day)
    known = lake.days("segments.assignments")
    runs = lake.count_by("marts.refreshes", ["day"]) if lake.exists(name) else {}
    published = max((of for (of,) in runs if of < day), default=date.min)
    after = min((of for of in known if of > day), default=day)
    return [of for of in known if published < of <= after]
