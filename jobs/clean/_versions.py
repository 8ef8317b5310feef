"""Reference rows (products, customers) as versions: one row per key and day on which something became known."""

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.storage.lake import Cache, with_cached_frames


def versions(typed: DataFrame, key: str, values: list[str]) -> DataFrame:
    """Typed rows with `outcome`: kept where the key's values differ from the version before; the last row of a day counts.

    Duplicates are `same_day` (another row of that day came later) and `unchanged`.
    """
    kept = F.size("rules") == 0
    per_day = Window.partitionBy(key, "day", kept).orderBy(F.desc("_file"), F.desc("_row"))
    in_order = Window.partitionBy(key, kept & (F.col("_nth") == 1)).orderBy("day")
    value = F.struct(*values)
    return (
        typed.withColumn("_nth", F.row_number().over(per_day))
        .withColumn("_before", F.lag(value).over(in_order))
        .withColumn(
            "outcome",
            F.when(~kept, "reject").when((F.col("_nth") > 1) | value.eqNullSafe(F.col("_before")), "duplicate").otherwise("kept"),
        )
        .withColumn(
            "rules",
            F.when(F.col("outcome") != "duplicate", F.col("rules"))
            .when(F.col("_nth") > 1, F.array(F.lit("same_day")))
            .otherwise(F.array(F.lit("unchanged"))),
        )
    )


def as_of(frame: DataFrame, key: str, day: date | None = None) -> DataFrame:
    """The newest version of each key known by `day` (of all, where None)."""
    known = frame if day is None else frame.where(frame.day <= day)
    newest = Window.partitionBy(key).orderBy(F.desc("day"))
    return known.withColumn("_nth", F.row_number().over(newest)).where("_nth = 1").drop("_nth")


def intervals(frame: DataFrame, key: str) -> DataFrame:
    """Versions with `valid_from` (their day; the first holds for all time before too) and `valid_to` (exclusive)."""
    in_order = Window.partitionBy(key).orderBy("day")
    first = F.row_number().over(in_order) == 1
    return frame.withColumns(
        {
            "valid_to": F.lead("day").over(in_order),
            "valid_from": F.when(first, F.lit("0001-01-01").cast("date")).otherwise(F.col("day")),
        }
    )


@with_cached_frames
def days_affected_by(keep: Cache, lookups: DataFrame, before: DataFrame, after: DataFrame, newest: date) -> list[date]:
    """Return the days up to `newest` on which a row of `lookups` (key, day) has another value in `after` than in `before`.

    Both have the value of a key and when it is valid: key, since, until (exclusive, or null), value.
    """

    def known(frame: DataFrame) -> DataFrame:
        ended = F.when(F.col("until") <= newest, F.col("until"))
        return frame.where(F.col("since") <= newest).select("key", "since", ended.alias("until"), "value")

    before, after = known(before), known(after)
    differing = before.subtract(after).unionByName(after.subtract(before))
    changed = keep(differing.groupBy("key").agg(F.min("since").alias("since")))
    oldest = changed.agg(F.min(F.greatest("since", F.lit("1900-01-01").cast("date")))).first()[0]
    if oldest is None:
        return []
    concerned = lookups.where((F.col("day") >= oldest) & (F.col("day") <= newest))
    asked = keep(concerned.join(F.broadcast(changed), "key", "left_semi").distinct())

    def found(versions: DataFrame) -> DataFrame:
        of_key = versions.withColumnRenamed("key", "_key")
        holds = (F.col("day") >= F.col("since")) & (F.col("until").isNull() | (F.col("day") < F.col("until")))
        return asked.join(of_key, (F.col("key") == F.col("_key")) & holds, "left").select("key", "day", "value")

    days = found(before).subtract(found(after)).select("day").distinct().collect()
    return sorted(row.day for row in days)
