"""One row per webhook, day and change that it was to be told of: whether the receiver accepted it.

A row is written as soon as the receiver has answered, so that a run that is killed and repeated sends only the rest. Rows with
the status `dead` are the dead letters; the next run of their day sends them again.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.storage.commits import write_files
from jobs.storage.lake import Lake
from jobs.storage.table import Table

ACCEPTED, DEAD = "accepted", "dead"
SCHEMA = """
    webhook STRING NOT NULL COMMENT 'Name of the webhook in conf/activation.toml',
    day DATE NOT NULL COMMENT 'Day of the change',
    event_id STRING NOT NULL COMMENT 'Id that the receiver knows the change by: the same for the same webhook, day and change',
    customer_id STRING NOT NULL COMMENT 'Customer',
    event STRING NOT NULL COMMENT 'segment_entered, segment_left, threshold_reached or threshold_left',
    segment_id INT COMMENT 'Segment that was entered or left; null: a threshold',
    threshold STRING COMMENT 'Name of the threshold; null: a segment',
    status STRING NOT NULL COMMENT 'accepted, or dead: not accepted',
    attempts INT NOT NULL COMMENT 'Requests that tried to send it in the last run; 0: the run gave up before',
    reason STRING COMMENT 'Why it was not accepted; null: it was',
    answered_at TIMESTAMP NOT NULL COMMENT 'When the last request ended, UTC'
"""
TABLE = Table(
    "activation.deliveries",
    "One row per webhook, day and change: whether the receiver accepted it.",
    SCHEMA,
    partition="day",
    checks={"status_known": "status IN ('accepted', 'dead')", "dead_for_a_reason": "(status = 'dead') = (reason IS NOT NULL)"},
)


class Log:
    """The rows of a day, added to while its changes are sent."""

    def __init__(self, lake: Lake, day: date):
        self._lake, self._day = lake, day
        self._opened = lake.open_for_write(TABLE)
        self._n_added = 0

    def list_accepted(self, webhook: str) -> set[str]:
        """Return the ids of the changes that the receiver has accepted."""
        is_accepted = (ds.field("webhook") == webhook) & (ds.field("day") == self._day) & (ds.field("status") == ACCEPTED)
        return {row["event_id"] for row in self._lake.read_small_table(TABLE, ["event_id"], is_accepted)}

    def add(self, rows: Sequence[dict]) -> None:
        """Write rows beside those that are there."""
        self._opened.append(write_files(self._lake.root, TABLE, pa.Table.from_pylist(list(rows), TABLE.arrow_schema)))
        self._n_added += 1

    def settle(self, ids: Mapping[str, Sequence[str]]) -> None:
        """Keep one row of each change in one file: that it was accepted, else the last one.

        `ids` are those of the changes of the day by webhook. A dead letter that is none of them any more is dropped, as where
        the day was published again.
        """
        rows = pl.DataFrame(pl.from_arrow(self._lake.read_arrow(TABLE, days=[self._day])))
        in_order = rows.sort("webhook", "event_id", pl.col("status") == ACCEPTED, "answered_at")
        last = in_order.unique(["webhook", "event_id"], keep="last", maintain_order=True)
        for webhook, valid in ids.items():
            is_void = (pl.col("webhook") == webhook) & (pl.col("status") == DEAD) & ~pl.col("event_id").is_in(list(valid))
            last = last.filter(~is_void)
        if self._n_added > 1 or len(last) < len(rows):
            self._lake.replace_rows(TABLE, last.to_arrow().cast(TABLE.arrow_schema), [self._day])


def list_days_of_dead_letters(lake: Lake, webhooks: Collection[str], until: date) -> list[date]:
    """Return the days up to `until` of which these webhooks have dead letters, in order."""
    is_dead = (ds.field("status") == DEAD) & ds.field("webhook").isin(list(webhooks)) & (ds.field("day") <= until)
    return sorted(day for (day,) in lake.count_by(TABLE.name, ["day"], is_dead))
