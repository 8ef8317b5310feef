"""`python -m benchmarks.tastes`: whether recommendations show customers of the sample shop what their planted type likes.

Each type favours some categories. The share of these in the lists is compared with their share in what the customers look at, in
what is popular, and in the catalogue. The shop is made and refreshed without segments; with `--lake` and `--input` it is one that
was scored before.
"""

import argparse
import csv
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
STEPS = "land,clean,features,score"


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
        _print_shares(lake, shop)
    return 0


def _print_shares(lake: str, shop: Path) -> None:
    day = writer.read_last_day(shop)
    with (shop / "truth/customers.csv").open(newline="") as file:
        types = pl.DataFrame(list(csv.DictReader(file)))
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
