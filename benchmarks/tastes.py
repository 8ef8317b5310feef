"""`python -m benchmarks.tastes`: whether the scores of the sample shop's customers are those of their planted types.

Each type favours some categories. The share of these in the lists of recommendations is compared with their share in what the
customers look at and in what is popular. Each type orders, spends and returns at a rate of its own: the types are put in order by
these rates and by their scores. The shop is made and refreshed without segments; with `--lake` and `--input` it is one that was
scored before.
"""

import argparse
import csv
import math
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import polars as pl

from benchmarks import measure
from jobs.sample import writer
from jobs.sample.customer_types import TYPES
from jobs.sample.products import CATEGORIES
from jobs.storage.delta import read_arrow

CUSTOMERS, DAYS, SEED = 2_000, 120, 11
LAST_DAY = date(2026, 3, 31)
MIN_SHARE = 0.6  # of favoured categories in the lists
MIN_CORRELATION = 0.7  # of planted rates and scores over the types, by rank
STEPS = "land,clean,features,train,score"


def main(arguments: list[str] | None = None) -> int:
    """Print the shares and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tastes", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    for root in ("lake", "input"):
        parser.add_argument(f"--{root}", help=f"{root} of a shop that was scored before")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        lake, shop = options.lake or f"{folder}/lake", Path(options.input or f"{folder}/input")
        if not options.lake:
            writer.write_shop(shop, options.customers, DAYS, SEED, LAST_DAY)
            environment = {
                "SHOAL_LAKE": lake,
                "SHOAL_INPUT": str(shop),
                "SHOAL_MODELS": f"{folder}/models",
                "SHOAL_REPORTS": folder,
            }
            environment |= {"SHOAL_SOURCE": "sample", "SHOAL_SECRET": "a made-up shop has none"}
            command = measure.python_command("-m", "jobs", "refresh", "--steps", STEPS, "--day", str(LAST_DAY))
            if subprocess.run(command, cwd=measure.ROOT, env={**os.environ, **environment}, check=False).returncode:
                return 1
        day = writer.read_last_day(shop)
        with (shop / "truth/customers.csv").open(newline="") as file:
            types = pl.DataFrame(list(csv.DictReader(file)))
        _print_shares(lake, day, types)
        _print_rates(lake, day, types)
    return 0


def _print_rates(lake: str, day: date, types: pl.DataFrame) -> None:
    """Print the mean scores of each type beside its planted rates, and how well their orders agree.

    The lapsed have left for good and the gifters come in season, so no rate of theirs holds on the day.
    """
    outcomes = pl.DataFrame(pl.from_arrow(read_arrow(lake, "scores.customer_outcomes", day=day)))
    values = pl.DataFrame(pl.from_arrow(read_arrow(lake, "scores.customer_values", day=day)))
    scores = {
        name: outcomes.filter(pl.col("outcome") == name).select("customer_id", score="probability")
        for name in outcomes["outcome"].unique().sort()
    }
    scores |= {
        name: values.select("customer_id", score=pl.col(name).cast(float)) for name in ("expected_orders_90d", "expected_net_90d")
    }
    for name, rows in scores.items():
        means = dict(rows.join(types, "customer_id", how="inner").group_by("type").agg(pl.col("score").mean()).iter_rows())
        rates = {kind: _planted_rate(name, kind) for kind in sorted(means)}
        pairs = ", ".join(f"{kind} {means[kind]:.2f} ({rate:.2f} planted)" for kind, rate in rates.items())
        steady = [kind for kind in means if kind not in ("lapsed", "gifter")]
        table = pl.DataFrame({"mean": [means[kind] for kind in steady], "rate": [rates[kind] for kind in steady]})
        correlation = table.select(pl.corr("mean", "rate", method="spearman")).item()
        measure.log(f"{name}: {pairs}; rank correlation {correlation:.2f}")
        measure.check_at_least(f"tastes: rank correlation of {name}", correlation, MIN_CORRELATION)


def _planted_rate(score: str, kind: str) -> float:
    """Return what a score would be on average for customers of a type who all had its mean rates."""
    planted = TYPES[kind]
    orders = 0.0 if kind == "lapsed" else planted.visits * planted.buys  # a day
    return {
        "churn": math.exp(-30 * orders),
        "next_order": 1 - math.exp(-30 * orders),
        "returns": 1 - math.exp(-90 * orders * planted.lines * planted.returns),
        "high_value": orders * planted.lines * planted.quantity,
        "expected_orders_90d": 90 * orders,
        "expected_net_90d": 90 * orders * planted.lines * planted.quantity,
    }[score]


def _print_shares(lake: str, day: date, types: pl.DataFrame) -> None:
    lists = pl.DataFrame(pl.from_arrow(read_arrow(lake, "scores.recommendations", day=day)))
    views = pl.DataFrame(pl.from_arrow(read_arrow(lake, "clean.events", ["customer_id", "product_id", "event_type"])))
    views = views.filter(pl.col("event_type") == "view").drop_nulls()
    popular = lists.group_by("product_id").len().sort("len", "product_id", descending=True).head(10).select("product_id")
    shares = {
        "lists": find_favoured(lists, types),
        "what they look at": find_favoured(views, types),
        "the ten products in most lists": find_favoured(types.select("customer_id").join(popular, how="cross"), types),
    }
    for name, rows in shares.items():
        by_type = rows.group_by("type").agg(pl.col("is_favoured").mean()).sort("type")
        measure.log(f"{name}: " + ", ".join(f"{kind} {share:.2f}" for kind, share in by_type.iter_rows()))
    by_method = shares["lists"].group_by("method").agg(pl.len(), pl.col("is_favoured").mean()).sort("method")
    measure.log("by method: " + ", ".join(f"{name} {share:.2f} of {n:,}" for name, n, share in by_method.iter_rows()))
    measure.check_at_least("tastes: favoured categories in lists", shares["lists"]["is_favoured"].mean(), MIN_SHARE)


def find_favoured(rows: pl.DataFrame, types: pl.DataFrame) -> pl.DataFrame:
    """Return (customer_id, product_id) rows of customers with a type, with `is_favoured`: the type likes the category."""
    numbered = {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz"[: len(CATEGORIES)])}
    favoured = [(name, numbered[letter]) for name, kind in TYPES.items() for letter in kind.likes]
    favours = pl.DataFrame(favoured, ["type", "category"], orient="row").with_columns(is_favoured=pl.lit(True))
    category = pl.col("product_id").str.head(2).cast(pl.Int64, strict=False) - 10  # as jobs/sample/products.py numbers products
    typed = rows.with_columns(category=category).join(types, "customer_id", "inner")
    return typed.join(favours, ["type", "category"], "left").with_columns(pl.col("is_favoured").fill_null(False))


if __name__ == "__main__":
    sys.exit(main())
