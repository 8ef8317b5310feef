"""`python -m benchmarks.validation`: the check of clean.events against the same checks written by hand as one aggregation.

Generates a day of events, runs each variant once to warm up, then both in turn; prints the median seconds of each and
their ratio. Needs the Spark environment; the target is a ratio of 1.2 at 1,000,000 rows.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.clean import events
from jobs.engine.session import open_session
from jobs.quality import pipeline
from jobs.quality.suites import Suite, load_suite
from jobs.storage.lake import Lake

DAY = date(2024, 3, 5)
TARGET = 1.2
ROUNDS = 3
EVENTS_PER_VISITOR = 15


def main(arguments: list[str] | None = None) -> int:
    """Print the seconds of both variants and their ratio; return 1 where they disagree on the rows, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args(arguments).rows
    spark = open_session("benchmark of validation")
    try:
        with tempfile.TemporaryDirectory() as folder:
            lake = Lake(spark, f"{folder}/lake")
            lake.replace_days(events.TABLE, create_events(spark, rows), [DAY])
            suite = load_suite(events.TABLE.name)
            variants = {
                "shoal check": lambda: pipeline.check_table(lake, None, suite, [DAY], DAY - timedelta(days=1)).results,
                "by hand": lambda: aggregate_by_hand(lake.read(events.TABLE.name, DAY, DAY), suite),
            }
            if failed := [r for r in variants["shoal check"]() if not r["success"]]:
                print(f"validation: the generated events are not good: {failed[0]}")
                return 1
            if unexpected := {name: n for name, n in variants["by hand"]().items() if n and name.startswith("unexpected")}:
                print(f"validation: the aggregation by hand counts {unexpected}, the check none")
                return 1
            seconds = time_in_turn(variants)
    finally:
        spark.stop()
    ratio = seconds["shoal check"] / seconds["by hand"]
    for name, median in seconds.items():
        print(f"{name:<14}{median:8.2f} s")
    print(f"validation of {rows:,} events: {ratio:.2f} times one aggregation by hand, target {TARGET}", end=": ")
    print("met" if ratio <= TARGET else "MISSED")
    return 0


def time_in_turn(variants: dict[str, Callable]) -> dict[str, float]:
    """Return the median seconds of each variant over some rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, call in variants.items():
            started = time.monotonic()
            call()
            seconds[name].append(time.monotonic() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def aggregate_by_hand(rows: DataFrame, suite: Suite) -> dict:
    """Return all that the suite expects of rows, and its figures, from one `agg` with a distinct count of the key."""
    figures = {name: F.expr(sql) for name, sql in suite.meta["figures"].items()}
    n_repeated = F.count("*") - F.count_distinct(*suite.key)
    conditions = dict(_condition(suite, expectation) for expectation in suite.row_expectations)
    return rows.groupBy("day").agg(n_repeated.alias("unexpected keys"), *_named(figures), *_named(conditions)).first().asDict()


def _named(columns: dict[str, Column]) -> list[Column]:
    return [column.alias(name) for name, column in columns.items()]


def _condition(suite: Suite, expectation) -> tuple[str, Column]:
    """Return the name and the aggregate of one expectation; the name begins with `unexpected` where it counts such rows."""
    kwargs, what = (
        expectation.configuration.kwargs,
        expectation.expectation_type.removeprefix("expect_column_").removeprefix("expect_"),
    )
    name = f"{what} {kwargs.get('column')} {json.dumps(kwargs.get('value_set'))}"
    if "column" not in kwargs:  # the number of rows, and the key, which is counted already
        return name, F.count("*")
    column = kwargs["column"]
    value = F.expr(suite.meta["derived"].get(column, column))
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    low_ok = F.lit(True) if low is None else (value > low if kwargs.get("strict_min") else value >= low)
    high_ok = F.lit(True) if high is None else value <= high
    match what:
        case "values_to_not_be_null":
            return f"unexpected {name}", F.count_if(value.isNull())
        case "values_to_be_in_set":
            return f"unexpected {name}", F.count_if(~value.isin(kwargs["value_set"]))
        case "values_to_match_regex":
            return f"unexpected {name}", F.count_if(~value.rlike(kwargs["regex"]))
        case "values_to_be_between":
            return f"unexpected {name}", F.count_if(~(low_ok & high_ok))
        case "mean_to_be_between":
            return name, F.avg(value)
        case "proportion_of_non_null_values_to_be_between":
            return name, F.count(value)
    raise ValueError(f"no aggregate for {expectation.expectation_type}; add it")


def create_events(spark: SparkSession, rows: int) -> DataFrame:
    """Return a day of good events, the same for the same number of rows."""

    def choose(seed: int, n: int) -> Column:
        return F.pmod(F.xxhash64("id", F.lit(seed)), F.lit(n))

    def word(seed: int, *words: str) -> Column:
        return F.element_at(F.array(*map(F.lit, words)), (choose(seed, len(words)) + 1).cast("int"))

    visitor = choose(1, max(rows // EVENTS_PER_VISITOR, 1))
    is_known, is_bot = visitor % 3 == 0, visitor % 100 == 1
    midnight = F.lit(DAY).cast("timestamp")
    columns = {
        "event_id": F.md5(F.col("id").cast("string")),
        "day": F.lit(DAY),
        "event_at": F.timestamp_seconds(F.unix_seconds(midnight) + choose(2, 86_400)),
        "visitor_id": F.concat(F.lit("visitor "), visitor),
        "customer_id": F.when(is_known, F.concat(F.lit("customer "), visitor)),
        "session_id": F.md5(F.concat_ws(" ", visitor, choose(3, 3))),
        "event_type": word(4, "view", "view", "view", "search", "add_to_cart", "purchase"),
        "product_id": F.concat(F.lit("product "), choose(5, 5000)),
        "category": F.concat(F.lit("category "), choose(6, 50)),
        "price": ((choose(7, 10_000) + 1) / 100).cast("decimal(18,4)"),
        "currency": F.lit("GBP"),
        "page": F.concat(F.lit("/"), choose(5, 5000)),
        "device": word(8, "desktop", "mobile", "tablet"),
        "country": word(9, "GB", "DE", "FR"),
        "is_bot": is_bot,
        "bot_rule": F.when(is_bot, "rate"),
        "channel": word(10, "direct", "search"),
        "session_started_at": midnight,
        "active_since": midnight,
        "identified_on": F.when(is_known, F.lit(DAY)),
        "signed_in": F.lit(False),
    }
    types = {field.name: field.dataType for field in spark.createDataFrame([], events.TABLE.schema).schema}
    named = [columns.get(name, F.lit(None)).cast(kind).alias(name) for name, kind in types.items()]
    return spark.range(rows).select("id").select(*named)


if __name__ == "__main__":
    sys.exit(main())
