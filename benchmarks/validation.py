"""`python -m benchmarks.validation`: the check of clean.events against the same checks written by hand as one aggregation.

Generates a day of events, runs each variant once to warm up, then both in turn; prints the median seconds of each and
their ratio. Needs no Spark; the target is a ratio of 1.2 at 1,000,000 rows.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta

import duckdb
import pyarrow as pa

from jobs.clean import events
from jobs.quality import pipeline
from jobs.quality._rows import CHECKED, open_rows, select
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
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(None, f"{folder}/lake")
        lake.replace_rows(events.TABLE, create_events(rows), [DAY])
        suite = load_suite(events.TABLE.name)
        variants = {
            "shoal check": lambda: pipeline.check_table(lake, None, suite, [DAY], DAY - timedelta(days=1)).results,
            "by hand": lambda: aggregate_by_hand(lake, suite),
        }
        if failed := [r for r in variants["shoal check"]() if not r["success"]]:
            print(f"validation: the generated events are not good: {failed[0]}")
            return 1
        if unexpected := {name: n for name, n in variants["by hand"]().items() if n and name.startswith("unexpected")}:
            print(f"validation: the aggregation by hand counts {unexpected}, the check none")
            return 1
        seconds = time_in_turn(variants)
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


def aggregate_by_hand(lake: Lake, suite: Suite) -> dict:
    """Return all that the suite expects of rows, and its figures, from one aggregation with a distinct count of the key."""
    n_repeated = {"unexpected keys": f"count(*) - count(DISTINCT ({', '.join(suite.key)}))"}
    conditions = dict(_condition(suite, expectation) for expectation in suite.row_expectations)
    aggregates = n_repeated | suite.meta["figures"] | conditions
    with open_rows(lake, suite.name, DAY, DAY) as rows:
        return dict(zip(aggregates, rows.query(select(aggregates.values(), CHECKED, by="day"))[0], strict=True))


def _condition(suite: Suite, expectation) -> tuple[str, str]:
    """Return the name and the aggregate of one expectation; the name begins with `unexpected` where it counts such rows."""
    kwargs, what = (
        expectation.configuration.kwargs,
        expectation.expectation_type.removeprefix("expect_column_").removeprefix("expect_"),
    )
    name = f"{what} {kwargs.get('column')} {json.dumps(kwargs.get('value_set'))}"
    if "column" not in kwargs:  # the number of rows, and the key, which is counted already
        return name, "count(*)"
    column = kwargs["column"]
    value = suite.meta["derived"].get(column, column)
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    limits = [] if low is None else [f"{value} {'>' if kwargs.get('strict_min') else '>='} {low}"]
    limits += [] if high is None else [f"{value} <= {high}"]
    match what:
        case "values_to_not_be_null":
            return f"unexpected {name}", f"count_if({value} IS NULL)"
        case "values_to_be_in_set":
            return f"unexpected {name}", f"count_if({value} NOT IN {tuple(kwargs['value_set'])})"
        case "values_to_match_regex":
            return f"unexpected {name}", f"count_if(NOT regexp_matches({value}, '{kwargs['regex']}'))"
        case "values_to_be_between":
            return f"unexpected {name}", f"count_if(NOT ({' AND '.join(limits)}))"
        case "mean_to_be_between":
            return name, f"avg({value})"
        case "proportion_of_non_null_values_to_be_between":
            return name, f"count({value})"
    raise ValueError(f"no aggregate for {expectation.expectation_type}; add it")


def create_events(rows: int) -> pa.Table:
    """Return a day of good events, the same for the same number of rows."""

    def choose(seed: int, n: int) -> str:
        return f"(md5_number_lower(concat(id, ' ', {seed})) % {n})::BIGINT"

    def word(seed: int, *words: str) -> str:
        return f"{list(words)}[{choose(seed, len(words))} + 1]"

    columns = {
        "event_id": "md5(id::VARCHAR)",
        "day": f"DATE '{DAY}'",
        "event_at": f"to_timestamp(epoch(DATE '{DAY}')::BIGINT + {choose(2, 86_400)})",
        "visitor_id": "concat('visitor ', visitor)",
        "customer_id": "CASE WHEN visitor % 3 = 0 THEN concat('customer ', visitor) END",
        "session_id": f"md5(concat(visitor, ' ', {choose(3, 3)}))",
        "event_type": word(4, "view", "view", "view", "search", "add_to_cart", "purchase"),
        "product_id": f"concat('product ', {choose(5, 5000)})",
        "category": f"concat('category ', {choose(6, 50)})",
        "price": f"(({choose(7, 10_000)} + 1) / 100)::DECIMAL(18,4)",
        "currency": "'GBP'",
        "page": f"concat('/', {choose(5, 5000)})",
        "device": word(8, "desktop", "mobile", "tablet"),
        "country": word(9, "GB", "DE", "FR"),
        "is_bot": "visitor % 100 = 1",
        "bot_rule": "CASE WHEN visitor % 100 = 1 THEN 'rate' END",
        "channel": word(10, "direct", "search"),
        "session_started_at": f"to_timestamp(epoch(DATE '{DAY}')::BIGINT)",
        "active_since": f"to_timestamp(epoch(DATE '{DAY}')::BIGINT)",
        "identified_on": f"CASE WHEN visitor % 3 = 0 THEN DATE '{DAY}' END",
        "signed_in": "false",
    }
    visitors = f"{choose(1, max(rows // EVENTS_PER_VISITOR, 1))} AS visitor"
    named = [f"{columns.get(name, 'NULL')} AS {name}" for name in events.TABLE.columns]
    numbered = select(["range AS id", visitors.replace("(id,", "(range,")], f"range({rows})")
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        return connection.sql(select(named, f"({numbered})")).to_arrow_table()


if __name__ == "__main__":
    sys.exit(main())
