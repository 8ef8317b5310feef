"""What differs between the ends of two days: the segments of customers, and on which side of a threshold their scores are."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.config.activation import Threshold
from jobs.errors import UserError
from jobs.progress import log
from jobs.storage.delta import is_written, list_days, read_arrow, read_columns, table_path

REACHED, LEFT = "reached", "left"
SEGMENT_CHANGES = pa.schema(
    {
        "customer_id": pa.string(), "change": pa.string(), "from_segment_id": pa.int32(), "to_segment_id": pa.int32(),
        "day": pa.date32(),
    }
)  # fmt: skip
CROSSINGS = pa.schema(
    {"customer_id": pa.string(), "change": pa.string(), "day": pa.date32(), "threshold": pa.string(), "value": pa.float64()}
)


class Period(NamedTuple):
    """From the end of one day to the end of a later one."""

    since: date
    day: date


def choose_period(lake: str, since: date | None, day: date | None, command: str = "changes") -> Period:
    """Return the period to `day`, the latest published day where None, from `since`, the published day before where None.

    Before the first published day nobody was known. Raises UserError, in the name of `command`, where `day` is not published
    or not after `since`.
    """
    published = set(read_arrow(lake, "marts.refreshes", ["day"])["day"].to_pylist())
    day = day or max(published, default=None)
    if day not in published:
        raise UserError(f"{command}: {day} is not published in {lake}; run first: shoal refresh --day {day}")
    since = since or max((earlier for earlier in published if earlier < day), default=date.min)
    if since >= day:
        raise UserError(f"changes: --since {since} is not before {day}; name an earlier day")
    return Period(since, day)


def read_segment_changes(lake: str, period: Period) -> pa.Table:
    """Return SEGMENT_CHANGES of the customers whose segment differs between the ends of the period.

    Before the first known day no customer is in a segment.
    """
    is_within = (ds.field("day") > period.since) & (ds.field("day") <= period.day)
    return net_changes(read_arrow(lake, "marts.segment_changes", where=is_within))


def net_changes(steps: pa.Table) -> pa.Table:
    """Return SEGMENT_CHANGES that changes of consecutive days add up to, by customer; `day` is that of the last change."""
    ordered = steps.sort_by([("customer_id", "ascending"), ("day", "ascending")])
    with_nulls = pc.ScalarAggregateOptions(skip_nulls=False)
    ends = [("from_segment_id", "first", with_nulls), ("to_segment_id", "last", with_nulls), ("day", "last", with_nulls)]
    rows = ordered.group_by("customer_id", use_threads=False).aggregate(ends)
    rows = rows.rename_columns(["customer_id", *(name for name, *_ in ends)])
    first, last = rows["from_segment_id"], rows["to_segment_id"]
    change = pc.if_else(first.is_null(), "added", pc.if_else(last.is_null(), "removed", "changed"))
    # A customer without a segment at either end came and went; one with the same segment at both has come back to it.
    differs = pc.fill_null(pc.not_equal(first, last), pc.xor(first.is_null(), last.is_null()))
    return rows.append_column("change", change).select(SEGMENT_CHANGES.names).filter(differs).sort_by("customer_id")


def read_holdouts(lake: str) -> set[str]:
    """Return the customers whom no campaign may reach, so that its effect can be measured; none before there are holdouts."""
    name = "marts.customer_segments"
    path = table_path(lake, name)
    if not is_written(path) or "holdout" not in read_columns(path):
        return set()
    return set(read_arrow(lake, name, ["customer_id"], where=ds.field("holdout"))["customer_id"].to_pylist())


def read_crossings(lake: str, thresholds: Sequence[Threshold], period: Period) -> pa.Table:
    """Return CROSSINGS of the customers who are beyond a threshold at only one end of the period.

    A day without scores has those of the scored day before. A threshold whose score nobody has at the end of the period, as
    where a plain rule was published in place of a model, is left out with a line: else everybody would leave it. At the begin
    of the period the last scores that anybody had count.
    """
    parts = [CROSSINGS.empty_table()]
    for threshold in thresholds:
        now = next(_read_scores(lake, threshold, period.day), None)
        if now is None or not len(now):
            log(f"changes: nobody has the score of the threshold {threshold.name} on {period.day}; it is left out")
            continue
        before = next((scores for scores in _read_scores(lake, threshold, period.since) if len(scores)), now.clear())
        parts.append(find_crossings(before, now, threshold, period.day))
    return pa.concat_tables(parts)


def find_crossings(before: pl.DataFrame, now: pl.DataFrame, threshold: Threshold, day: date) -> pa.Table:
    """Return CROSSINGS by customer; both frames hold (customer_id, value), and who is in neither is not beyond.

    Crossings of consecutive periods, applied in order, give exactly the customers who are beyond the threshold.
    """
    value = pl.col("value")
    is_beyond = value > threshold.above if threshold.above is not None else value < threshold.below
    beyond = [scores.filter(is_beyond).select("customer_id") for scores in (before, now)]
    sides = {REACHED: beyond[1].join(beyond[0], "customer_id", "anti"), LEFT: beyond[0].join(beyond[1], "customer_id", "anti")}
    rows = pl.concat([customers.with_columns(change=pl.lit(change)) for change, customers in sides.items()])
    rows = rows.join(now, "customer_id", how="left").with_columns(day=pl.lit(day), threshold=pl.lit(threshold.name))
    return rows.sort("customer_id").select(CROSSINGS.names).to_arrow().cast(CROSSINGS)


def _read_scores(lake: str, threshold: Threshold, day: date) -> Iterator[pl.DataFrame]:
    """Yield (customer_id, value) of the scored days up to `day`, the last first, without customers who have none."""
    name, column = (
        ("scores.customer_values", threshold.column) if threshold.column else ("scores.customer_outcomes", "probability")
    )
    for scored_day in sorted((earlier for earlier in list_days(lake, name) if earlier <= day), reverse=True):
        of_day = ds.field("day") == scored_day
        where = of_day if threshold.column else of_day & (ds.field("outcome") == threshold.outcome)
        rows = pl.DataFrame(pl.from_arrow(read_arrow(lake, name, ["customer_id", column], where=where)))
        yield rows.select("customer_id", value=pl.col(column).cast(pl.Float64)).drop_nulls("value")
