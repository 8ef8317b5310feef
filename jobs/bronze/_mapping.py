"""The rows of a mapping's files in the shape of its bronze table, as Spark frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.bronze import _reading
from jobs.bronze._columns import FileGroup, quote_name
from jobs.config.settings import Clean
from jobs.config.source_mapping import COLUMNS, TableMapping
from jobs.event_time import correct_event_time, parse_time

UNDATED = date(1970, 1, 1)  # reference rows without a date hold for every day
_MOST_TASKS = 32
# The column that says which day a row is about. Of events that is the corrected time.
TIME_COLUMNS = {
    "orders": "ordered_at",
    "products": "known_on",
    "customers": "registered_at",
    "rates": "rated_on",
}


@dataclass(frozen=True)
class FileMapper:
    """Reads the files of one mapping and applies its expressions.

    `day` is the last day that is landed, `secret` the key under which personal fields are hashed.
    """

    spark: SparkSession
    settings: Clean
    root: str
    source: str
    mapping: TableMapping
    secret: str
    day: date
    landed_at: datetime

    def read_raw(self, group: FileGroup, limit: int | None = None) -> DataFrame:
        """Return the rows of a group's files before the mapping's expressions; of each file the first `limit`."""
        root, mapping, used, secret = self.root, self.mapping, group.used, self.secret  # all that a task needs
        names = self.spark.createDataFrame([(name,) for name in group.files], "name STRING")
        return names.repartition(min(len(group.files), _MOST_TASKS)).mapInArrow(
            lambda batches: _read_files(batches, root, mapping, used, secret, limit), _raw_ddl(used)
        )

    def map_rows(self, raw: DataFrame, group: FileGroup, is_requested: bool = True) -> DataFrame:
        """Return raw rows in the table's shape: those that `where` requests, or with false those that it leaves out."""
        mapping, rows = self.mapping, raw
        if mapping.where:
            is_malformed = F.col("_extra")[_reading.MALFORMED].isNotNull()
            rows = rows.where((is_malformed | F.coalesce(F.expr(mapping.where).cast("boolean"), F.lit(False))) == is_requested)
        if mapping.file_day:
            days = [(name, mapping.file_day_of(name)) for name in group.files]
            rows = rows.join(F.broadcast(self.spark.createDataFrame(days, "_file STRING, _file_day DATE")), "_file", "left")
        else:
            rows = rows.withColumn("_file_day", F.lit(None).cast("date"))
        expressions = {column: mapping.columns.get(column, "NULL") for column in COLUMNS[mapping.table]}
        mapped = rows.select(
            *(F.expr(expression).cast("string").alias(column) for column, expression in expressions.items()),
            "_extra", F.lit(self.source).alias("_source"), "_file", "_row", "_file_day",
            F.lit(self.landed_at).cast("timestamp").alias("_landed_at"),
        )  # fmt: skip
        return mapped.withColumn("day", self._day_column())

    def _day_column(self) -> Column:
        """Return the day of a row. An event or order whose own day cannot be used counts on the day it arrived."""
        table = self.mapping.table
        is_event = table == "events"
        own_time = correct_event_time(self.settings.clock_skew_seconds)[0] if is_event else parse_time(TIME_COLUMNS[table])
        own = F.to_date(own_time)
        if table in ("events", "orders"):
            arrived = F.coalesce(F.col("_file_day"), F.lit(self.day))
            latest = F.coalesce(F.col("_file_day"), F.lit(self.landed_at.date()))
            is_usable = own.isNotNull() & (own <= latest)
            if is_event:  # a late order restates its day however old, because no money may be left out
                is_usable &= F.col("_file_day").isNull() | (own >= F.date_sub("_file_day", self.settings.late_days))
            return F.when(is_usable, own).otherwise(arrived)
        if table == "customers":
            return F.coalesce(F.col("_file_day"), own, F.lit(UNDATED))
        return F.coalesce(own, F.col("_file_day"), F.lit(UNDATED))


def _read_files(
    batches: Iterable[pa.RecordBatch], root: str, mapping: TableMapping, used: list[str], secret: str, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Read the files that batches name, inside a Spark task."""
    for batch in batches:
        for name in batch.column(0).to_pylist():
            left = limit
            for rows in _reading.read_rows(root, name, mapping, used, secret):
                yield rows if left is None else rows.slice(0, left)
                if left is not None:
                    left -= rows.num_rows
                    if left <= 0:
                        break


def _raw_ddl(used: list[str]) -> str:
    columns = [f"{quote_name(column)} STRING" for column in used]
    return ", ".join([*columns, "_extra MAP<STRING, STRING>", "_file STRING", "_row BIGINT"])
