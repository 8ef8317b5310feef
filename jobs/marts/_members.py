"""The customers of a day with their segment, and other inputs that the marts share."""

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


def read_members(lake: Lake, day: date, attributes: Sequence[str] = (), subset: str | None = None) -> DataFrame:
    """Return one row per customer of `day`: CUSTOMER_COLUMNS, vector, attributes (an array) and SEGMENT_COLUMNS.

    `attributes` are text columns of features.customers. `vector` is null for dormant customers: they are in their segment by
    rule, and may be nineteen of twenty. `subset` is a SQL predicate on SEGMENT_COLUMNS that few customers fulfil. Raises
    UserError where the day has no assignments.
    """
    read_assigned_model(lake, day)
    assignments = lake.read("segments.assignments", day, day).select(*SEGMENT_COLUMNS)
    customers = lake.read("features.customers", day, day).select(
        *CUSTOMER_COLUMNS,
        F.when(F.col("is_active"), F.col("vector")).alias("vector"),
        F.array(*(F.col(name) for name in attributes)).cast("array<string>").alias("attributes"),
    )
    # Few assignments are broadcast, so that the customers need not be shuffled and sorted for the join.
    selected = assignments if subset is None else F.broadcast(assignments.where(subset))
    return customers.join(selected, "customer_id", how="inner")


def read_assigned_model(lake: Lake, day: date) -> tuple[str, int]:
    """Return the model that `day` was assigned with, and the number of its customers.

    Raises UserError where the day has no assignments.
    """
    counts = lake.count_by("segments.assignments", ["model_version"], ds.field("day") == day)
    if not counts:
        raise UserError(f"publish: segments.assignments has no rows on {day}; run first: shoal segment --day {day}")
    return next(iter(counts))[0], sum(counts.values())


def read_segment_names(lake: Lake, day: date) -> dict[int, str]:
    """Return the names of the day's segments by id."""
    version, _ = read_assigned_model(lake, day)
    of_model = ds.field("model_version") == version
    return {
        row["segment_id"]: row["name"] for row in lake.read_small_table("segments.definitions", ["segment_id", "name"], of_model)
    }


def read_history(lake: Lake, day: date) -> DataFrame:
    """Return segments.history. Raises UserError where an earlier version of Shoal wrote it without previous_segment_id."""
    history = lake.read("segments.history")
    if "previous_segment_id" not in history.columns:
        raise UserError(
            f"publish: segments.history in {lake.root} has no column previous_segment_id; run first: shoal segment --day {day}"
        )
    return history


def days_to_publish(lake: Lake, name: str, day: date) -> list[date]:
    """Return the days of a table of changes, `name`, that publishing `day` must write, so that the published days add up.

    They are the day itself, the known days before it that were never published, and the next known day, which is compared
    with it. Raises UserError where the day has no assignments.
    """
    read_assigned_model(lake, day)
    known_days = lake.days("segments.assignments")
    published = lake.count_by("marts.refreshes", ["day"]) if lake.exists(name) else {}
    last_published = max((earlier for (earlier,) in published if earlier < day), default=date.min)
    next_day = min((later for later in known_days if later > day), default=day)
    return [known_day for known_day in known_days if last_published < known_day <= next_day]
