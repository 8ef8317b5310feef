"""One row per customer and interval: the segment a customer was in, from when and to when.

Input: segments.assignments. A known day is a day with assignments. An interval begins on the first day it held and ends on the
first known day on which it no longer did; a day without a refresh lies within the interval that was open before it. The
intervals of a customer never overlap. A customer whom a known day lacks has no interval on that day, and begins a new one on
coming back, even in the same segment. Writing a day, whether first, again or late, changes only the intervals that touch it
or the next known day.
"""

from collections.abc import Collection, Sequence
from datetime import date
from functools import partial, reduce

import polars as pl
import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Kernel, Tables, Write
from jobs.segments import assignments
from jobs.storage import delta
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, list_files
from jobs.storage.table import Table

# The version of segments.assignments that the table holds: it tells whether updating one day is enough.
SOURCE_PROPERTY = "shoal.assignments_version"

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    segment_id INT COMMENT 'Segment; 0: dormant',
    valid_from DATE COMMENT 'First day in the segment',
    valid_to DATE COMMENT 'First known day no longer in the segment; null while in it',
    model_version STRING COMMENT 'Model that was champion on the first day',
    previous_segment_id INT COMMENT 'Segment on the known day before valid_from; null: not known on it'
"""
TABLE = Table(
    "segments.history",
    "One row per customer and interval of days in one segment.",
    SCHEMA,
    partition="valid_to",
    checks={"forward": "valid_to IS NULL OR valid_to > valid_from", "segment_not_negative": "segment_id >= 0"},
)


def build_history(tables: Tables, known_days: Sequence[date]) -> Tables:
    """Make the intervals of customers out of all their assignments; the key is the customer.

    Takes "assignments" (customer_id, day, segment_id, model_version). Returns "history", rows of segments.history by customer
    and valid_from. A row costs about 0.5 microseconds of a CPU.
    """
    days = sorted(known_days)
    neighbours = pl.DataFrame(
        {"day": days, "day_before": [None, *days[:-1]], "day_after": [*days[1:], None]}, dict.fromkeys(_NEIGHBOURS, pl.Date)
    )
    rows = pl.DataFrame(pl.from_arrow(tables["assignments"])).sort("customer_id", "day").join(neighbours, "day", "left")
    is_same_customer = pl.col("customer_id") == pl.col("customer_id").shift()
    was_there = is_same_customer & (pl.col("day").shift() == pl.col("day_before"))
    previous = pl.when(was_there).then(pl.col("segment_id").shift())
    rows = rows.with_columns(previous_segment_id=previous)
    begins = pl.col("previous_segment_id").ne_missing(pl.col("segment_id"))
    history = rows.group_by(begins.cum_sum().alias("interval"), maintain_order=True).agg(
        pl.first("customer_id", "segment_id"),
        pl.first("day").alias("valid_from"),
        pl.last("day_after").alias("valid_to"),
        pl.first("model_version", "previous_segment_id"),
    )
    return {"history": history.select(TABLE.columns).to_arrow().cast(TABLE.arrow_schema)}


def update_history(tables: Tables, day: date, next_day: date | None = None, next_version: str | None = None) -> Tables:
    """Bring the intervals of customers up to the assignments of `day`; the key is the customer.

    Takes "history", the rows of segments.history as before the write whose partition affected_partitions() names, and
    "assignments" (customer_id, segment_id, model_version) of the day. Returns "history", the rows of these partitions and of
    new ones by customer and valid_from. `next_version` is the model of the known day `next_day`. A row costs about 2
    microseconds of a CPU.
    """
    history, on_day = (pl.DataFrame(pl.from_arrow(tables[name])) for name in ("history", "assignments"))
    is_affected = pl.lit(True) if next_day is None else pl.col("valid_from") <= next_day
    affected, unaffected = history.filter(is_affected), history.filter(~is_affected)
    # An interval that began before the day holds on the known day before it. One that an earlier run of the day began is dropped.
    before = affected.filter(pl.col("valid_from") < day)
    # Without a next day no interval holds on it.
    after = affected.filter((pl.col("valid_to") > next_day).fill_null(True)) if next_day else affected.clear()
    sides = {"before": before, "on_day": on_day.select("customer_id", "segment_id", "model_version"), "after": after}
    frames = (
        frame.rename({column: f"{name}.{column}" for column in frame.columns if column != "customer_id"})
        for name, frame in sides.items()
    )
    rows = reduce(lambda left, right: left.join(right, "customer_id", "full", coalesce=True), frames)
    intervals = [rows.select("customer_id", **interval) for interval in _list_intervals(day, next_day, next_version)]
    updated = pl.concat([unaffected.select(TABLE.columns), *(part.select(TABLE.columns) for part in intervals)])
    updated = updated.filter(pl.col("segment_id").is_not_null()).sort("customer_id", "valid_from")
    return {"history": updated.to_arrow().cast(TABLE.arrow_schema)}


def affected_partitions(partitions: Collection[date | None], day: date) -> set[date | None]:
    """Return which of the partitions may hold intervals that writing `day` changes: those that touch it.

    >>> sorted(affected_partitions([date(2024, 3, 1), date(2024, 3, 2), None], date(2024, 3, 2)), key=str)
    [datetime.date(2024, 3, 2), None]
    """
    return {valid_to for valid_to in partitions if valid_to is None or valid_to >= day}


_NEIGHBOURS = ("day", "day_before", "day_after")


def _list_intervals(day: date, next_day: date | None, next_version: str | None) -> list[dict[str, pl.Expr]]:
    """Return the intervals of a customer before, on and after the day, by column; without a segment_id there is none.

    The interval before the day goes on where the segment is the same on the day, and so does that of the day into the next.
    """
    is_same = (pl.col("before.segment_id") == pl.col("on_day.segment_id")).fill_null(False)
    goes_on = (pl.col("after.segment_id") == pl.col("on_day.segment_id")).fill_null(False)
    end = pl.when(goes_on).then("after.valid_to").otherwise(pl.lit(next_day, pl.Date))
    intervals = [
        ("before.segment_id", "before.valid_from", pl.when(is_same).then(end).otherwise(pl.lit(day)),
         "before.model_version", "before.previous_segment_id"),
        (pl.when(~is_same).then("on_day.segment_id"), pl.lit(day), end, "on_day.model_version", "before.segment_id"),
        (pl.when(~goes_on).then("after.segment_id"), pl.lit(next_day, pl.Date), "after.valid_to",
         pl.lit(next_version, pl.String), "on_day.segment_id"),
    ]  # fmt: skip
    names = ("segment_id", "valid_from", "valid_to", "model_version", "previous_segment_id")
    return [dict(zip(names, (pl.col(v) if isinstance(v, str) else v for v in values), strict=True)) for values in intervals]


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Bring the history up to segments.assignments: update it where only `day` was written since, else build it."""
    source = lake.version(assignments.TABLE.name)
    if _lacks_at_most_one_write(lake, source):
        _update(lake, settings, day)
    else:
        known_days = lake.days(assignments.TABLE.name)
        stored = Rows(assignments.TABLE, "customer_id", ("customer_id", "day", "segment_id", "model_version"))
        _replace(lake, settings, partial(build_history, known_days=known_days), {"assignments": stored}, None)
    lake.set_property(TABLE, SOURCE_PROPERTY, str(source))


def _update(lake: Lake, settings: Settings, day: date) -> None:
    """Write the intervals that `day` changes. Intervals that ended before it are not read."""
    next_day = min((later for later in lake.days(assignments.TABLE.name) if later > day), default=None)
    on_next_day = ds.field("day") == next_day
    versions = lake.count_by(assignments.TABLE.name, ["model_version"], on_next_day) if next_day else {(None,): 0}
    ((next_version,),) = versions
    partitions = affected_partitions({file.day for file in list_files(lake.root, Rows(TABLE, "customer_id"))}, day)
    stored = {
        "history": Rows(TABLE, "customer_id", days=partitions),
        "assignments": Rows(assignments.TABLE, "customer_id", ("customer_id", "segment_id", "model_version"), [day]),
    }
    kernel = partial(update_history, day=day, next_day=next_day, next_version=next_version)
    _replace(lake, settings, kernel, stored, {*partitions, None, day, next_day})


def _replace(
    lake: Lake, settings: Settings, kernel: Kernel, stored: dict[str, Rows], partitions: set[date | None] | None
) -> None:
    """Make what the kernel returns the rows of these partitions, or of the whole table where None."""
    n_rows = max(sum(file.n_rows for file in list_files(lake.root, rows)) for rows in stored.values())
    with open_runner(lake, settings, n_rows) as runner:
        opened = lake.open_for_write(TABLE)
        written = runner.run(kernel, runner.read(stored, count_buckets(n_rows)), {"history": Write(TABLE)})
        opened.commit(written.files["history"], partitions)


def _lacks_at_most_one_write(lake: Lake, source: int) -> bool:
    """Return whether the table holds all of version `source` of segments.assignments, or all but its last write."""
    if not lake.exists(TABLE.name) or delta.read_columns(lake.path(TABLE.name)) != set(TABLE.columns):
        return False
    return lake.properties(TABLE.name).get(SOURCE_PROPERTY) in (str(source), str(source - 1))
