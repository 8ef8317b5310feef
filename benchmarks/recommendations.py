"""`python -m benchmarks.recommendations`: ten of 20,000 products for each of a million customers, beside MLlib's own way.

The recommender is a made-up blend of all components with factors of rank 32, so that nothing is fitted. One process is measured
as the step `score` runs it: it reads 15 order lines a customer, folds each customer in, scores all products and writes the table.
MLlib does the same for fewer customers with `recommendForAllUsers`, which knows neither the other components nor what to leave
out.
"""

import argparse
import sys
import tempfile
import time
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from scipy import sparse

from benchmarks import measure
from jobs.scores import _inputs, _interactions
from jobs.scores._factors import RANK
from jobs.scores._products import NEIGHBOURS
from jobs.scores._recommender import ALS, BLEND, CO_PURCHASE, CONTENT, Recommender
from jobs.scores._recommender_training import write_recommender
from jobs.storage import models
from jobs.storage.lake import Lake

CUSTOMERS, PRODUCTS, LINES, SEGMENTS = 1_000_000, 20_000, 15, 8
CUSTOMERS_OF_MLLIB = 20_000
MAX_SECONDS = 180.0
DAY = date(2026, 3, 31)
ORDER_DAYS = 30
RUN = f"""
from datetime import date
from jobs.config.settings import load_settings
from jobs.scores import recommendations
from jobs.storage.lake import Lake
if __name__ == "__main__":
    settings = load_settings()
    recommendations.run(Lake(None, settings.lake), settings, date.fromisoformat("{DAY}"), retrain=False)
"""


def main(argv: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recommendations", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--customers-of-mllib", type=int, default=CUSTOMERS_OF_MLLIB, help="0 for none")
    arguments = parser.parse_args(argv)
    n = arguments.customers
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        write_shop(Lake(None, f"{folder}/lake"), n)
        version = f"{DAY}-made-up"
        models.save(
            f"{folder}/models", version, partial(write_recommender, recommender=make_recommender()), models.RECOMMENDATIONS
        )
        models.promote(f"{folder}/models", version, DAY, BLEND, models.RECOMMENDATIONS)
        script = Path(folder) / "score.py"
        script.write_text(RUN)
        environment = {"SHOAL_LAKE": f"{folder}/lake", "SHOAL_MODELS": f"{folder}/models", "PYTHONPATH": str(measure.ROOT)}
        run = measure.run_command(measure.python_command(str(script)), environment)
    label = f"{n:,} customers x {PRODUCTS:,} products at rank {RANK}"
    measure.check_at_most(f"{label}: seconds", run.seconds, MAX_SECONDS)
    measure.check_memory(label, run.peak_bytes)
    if arguments.customers_of_mllib:
        seconds = measure_mllib(arguments.customers_of_mllib)
        measure.log(
            f"recommendForAllUsers: {seconds:.1f} s for {arguments.customers_of_mllib:,} customers, which is "
            f"{seconds * n / arguments.customers_of_mllib:,.0f} s for {n:,}"
        )
    return 0


def write_shop(lake: Lake, n_customers: int) -> None:
    """Write customers in segments, and what each ordered in the last ORDER_DAYS days: products of all kinds of popularity."""
    random = np.random.default_rng(1)
    ids = pl.Series("customer_id", np.arange(n_customers)).cast(pl.String).str.zfill(8)
    for start in range(0, n_customers, 250_000):
        some = ids[start : start + 250_000]
        columns = pl.DataFrame({"customer_id": some}).with_columns(day=pl.lit(DAY), is_active=pl.lit(True))
        segments = pl.Series("segment_id", random.integers(1, SEGMENTS + 1, len(some)), pl.Int32)
        _append(lake, _inputs.ACTIVE, columns)
        _append(lake, _inputs.ASSIGNMENTS, columns.select("customer_id", "day").with_columns(segments))
    for number in range(ORDER_DAYS):
        n_lines = n_customers * LINES // ORDER_DAYS
        day = DAY - timedelta(days=number)
        products = pl.Series((PRODUCTS * random.random(n_lines) ** 2).astype(np.int64))
        lines = pl.DataFrame(
            {"customer_id": ids[random.integers(0, n_customers, n_lines)], "product_id": products.cast(pl.String).str.zfill(5)}
        )
        lines = lines.with_columns(
            pl.lit("product").alias("line_kind"), pl.lit(1).cast(pl.Decimal(18, 4)).alias("quantity"),
            pl.lit("placed").alias("status"), pl.lit(day).alias("day"), pl.lit(day).alias("known_from"),
            pl.lit(date.max).alias("known_until"), pl.lit(None, pl.String).alias("category"),
            pl.lit(None, pl.Datetime("us", "UTC")).alias("returned_at"),
        )  # fmt: skip
        lake.replace_rows(_interactions.ORDERS, _to_rows(_interactions.ORDERS, lines), [day])


def _append(lake: Lake, table, rows: pl.DataFrame) -> None:
    """Add rows to a day of a table."""
    stored = pl.DataFrame(pl.from_arrow(lake.read_arrow(table, days=[DAY])))
    lake.replace_rows(table, _to_rows(table, pl.concat([stored, rows.select(stored.columns)])), [DAY])


def _to_rows(table, rows: pl.DataFrame) -> pa.Table:
    return rows.select(table.columns).to_arrow().cast(table.arrow_schema)


def make_recommender() -> Recommender:
    """Return a blend of made-up factors, similarities and priors."""
    random = np.random.default_rng(2)
    products = pl.DataFrame({"product_id": pl.Series(np.arange(PRODUCTS)).cast(pl.String).str.zfill(5)})
    products = products.with_columns(
        name=pl.lit(None, pl.String), category=pl.lit(None, pl.String), is_repeatable=pl.Series(random.random(PRODUCTS) < 0.5)
    )
    factors = random.normal(0, RANK**-0.5, (PRODUCTS, RANK)).astype(np.float32)
    priors = random.random((SEGMENTS + 1, PRODUCTS), np.float32)
    similarities = {name: _make_neighbours(random) for name in (CO_PURCHASE, CONTENT)}
    weights = {CO_PURCHASE: 0.3, CONTENT: 0.2, ALS: 0.5}
    return Recommender(
        products, np.arange(PRODUCTS), factors, similarities, tuple(range(1, SEGMENTS + 1)), priors, weights=weights
    )


def _make_neighbours(random: np.random.Generator) -> sparse.csr_matrix:
    rows = np.repeat(np.arange(PRODUCTS), NEIGHBOURS)
    columns = (rows + random.integers(1, PRODUCTS, len(rows))) % PRODUCTS
    return sparse.csr_matrix((random.random(len(rows), np.float32), (rows, columns)), (PRODUCTS, PRODUCTS))


def measure_mllib(n_customers: int) -> float:
    """Return the seconds that MLlib takes to recommend ten of the products to each of so many customers."""
    from pyspark.ml.recommendation import ALS as Estimator

    from jobs.engine.fitted_models import fitted_model
    from jobs.engine.session import open_session

    random = np.random.default_rng(3)
    n = n_customers * LINES
    columns = [random.integers(0, n_customers, n, np.int32), random.integers(0, PRODUCTS, n, np.int32), np.ones(n, np.float32)]
    spark = open_session("benchmark of recommendations")
    try:
        rows = spark.createDataFrame(pa.table(columns, names=["user", "item", "rating"]))
        with fitted_model(Estimator(rank=RANK, maxIter=1, implicitPrefs=True, seed=1), rows) as model:
            started = time.monotonic()
            model.recommendForAllUsers(10).write.format("noop").mode("overwrite").save()
            return time.monotonic() - started
    finally:
        spark.stop()


if __name__ == "__main__":
    sys.exit(main())
