"""Reference rows (products, customers) as versions: one row per key and day on which something became known."""

from datetime import date

import polars as pl

_FIRST_DAY = date(1, 1, 1)


def classify_versions(typed: pl.DataFrame, key: str, values: list[str]) -> pl.DataFrame:
    """Return the typed rows with `outcome`: kept where the key's values differ from the version before.

    The last row of a day counts. `rules` says why a row is refused (as given) or repeated: `same_day` (another row of that
    day came later) or `unchanged`. About 0.5 µs of CPU a row.
    """
    accepted = typed.filter(pl.col("rules").list.len() == 0).sort(key, "day", "_file", "_row")
    is_first = pl.col(key).ne_missing(pl.col(key).shift(1)) | (pl.int_range(pl.len()) == 0)
    differs = pl.any_horizontal(pl.col(value).ne_missing(pl.col(value).shift(1)) for value in values)
    last_of_day = accepted.unique([key, "day"], keep="last", maintain_order=True)
    kept = last_of_day.filter(is_first | differs)["position"].implode()
    is_kept, is_last = pl.col("position").is_in(kept), pl.col("position").is_in(last_of_day["position"].implode())
    is_refused = pl.col("rules").list.len() > 0
    reason = pl.when(is_last).then(pl.lit("unchanged")).otherwise(pl.lit("same_day"))
    return typed.with_columns(
        outcome=pl.when(is_refused).then(pl.lit("reject")).when(is_kept).then(pl.lit("kept")).otherwise(pl.lit("duplicate")),
        rules=pl.when(is_refused | is_kept).then("rules").otherwise(pl.concat_list(reason)),
    )


def find_validity(versions: pl.DataFrame, key: str, values: list[str]) -> pl.DataFrame:
    """Return what each key means and when: key, since, until (exclusive, or null), values.

    The first version of a key holds for all time before it too.
    """
    is_first = pl.col(key) != pl.col(key).shift(1)
    return versions.sort(key, "day").select(
        pl.when(is_first.fill_null(True)).then(_FIRST_DAY).otherwise("day").alias("since"),
        pl.col("day").shift(-1).over(key).alias("until"),
        *values,
        key=key,
    )


def find_changes(before: pl.DataFrame, after: pl.DataFrame, newest: date) -> pl.DataFrame:
    """Return the keys whose meaning differs on a day up to `newest`, and since when: key, since.

    `before` and `after` have key, since, until (exclusive, or null), and the values, in the same columns.
    """
    before, after = _cut_off(before, newest), _cut_off(after, newest)
    return _subtract(before, after).vstack(_subtract(after, before)).group_by("key").agg(pl.col("since").min())


def find_affected_days(
    lookups: pl.DataFrame, changes: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame, newest: date
) -> list[date]:
    """Return the days up to `newest` on which a row of `lookups` (key, day) has other values in `after` than in `before`.

    `changes` are those of find_changes.
    """
    asked = lookups.filter(pl.col("day") <= newest).join(changes, "key", "inner").filter(pl.col("day") >= pl.col("since"))
    asked = asked.select("key", "day").unique()
    answers = [_look_up(asked, versions) for versions in (before, after)]
    return sorted(_subtract(*answers)["day"].unique())


def _cut_off(versions: pl.DataFrame, newest: date) -> pl.DataFrame:
    """Return the versions as they were known on the day `newest`."""
    started = versions.filter(pl.col("since") <= newest)
    return started.with_columns(until=pl.when(pl.col("until") <= newest).then("until"))


def _look_up(asked: pl.DataFrame, versions: pl.DataFrame) -> pl.DataFrame:
    """Return the values of each key on each day (key, day), null where it means nothing then."""
    holds = (pl.col("day") >= pl.col("since")) & (pl.col("until").is_null() | (pl.col("day") < pl.col("until")))
    held = asked.join(versions, "key", "inner").filter(holds).drop("since", "until")
    return asked.join(held, ["key", "day"], "left")


def _subtract(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that are not among the others."""
    return rows.join(others.select(rows.columns), rows.columns, "anti", nulls_equal=True)
