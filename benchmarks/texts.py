"""`python -m benchmarks.texts`: embedding the texts of a shop on Spark, and a day without new ones, beside loops over texts.

The texts are made-up names of products, 100,000 for the static model and 10,000 for the transformer, which is left out where
`make minilm` has not fetched it. Each embedding runs as the step `features` runs it, from clean.products to features.texts, in
a session of Spark that is open. The loops give the same models one text after the other, as a script of one's own would.
"""

import argparse
import os
import tempfile
import time
from datetime import date, timedelta

import numpy as np
import polars as pl

from benchmarks import measure
from jobs.clean import products
from jobs.config.settings import Settings, Text
from jobs.engine.session import open_session
from jobs.features import interests, item_days, texts
from jobs.storage.lake import Lake
from jobs.text_models import MINILM, MINILM_FOLDER, StaticModel, TextModel, load_text_model

DAY = date(2026, 3, 31)
MAX_SECONDS = {"static": 10.0, MINILM: 60.0}
MAX_SECONDS_OF_QUIET_DAY = 5.0
ITEMS, HISTORY_DAYS = 20, 30  # of a customer
_WORDS = (
    "red",
    "blue",
    "green",
    "cotton",
    "steel",
    "glass",
    "mug",
    "cup",
    "lamp",
    "table",
    "garden",
    "shirt",
    "vintage",
    "heart",
)


class _Session:
    """A Spark session that is open, as Lake expects one."""

    is_begun = True

    def __init__(self, spark):
        self._spark = spark

    def open(self):
        return self._spark


def main(argv: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.texts", description=__doc__.split("\n\n")[0])
    parser.add_argument("--static", type=int, default=100_000, help="texts for the static model")
    parser.add_argument("--minilm", type=int, default=10_000, help="texts for the transformer")
    parser.add_argument("--customers", type=int, default=50_000)
    arguments = parser.parse_args(argv)
    os.environ.setdefault("SHOAL_SECRET", "the key of a benchmark")
    spark = open_session("benchmark of texts")
    try:
        with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
            for model, n_texts in (("static", arguments.static), (MINILM, arguments.minilm)):
                if model != MINILM or MINILM_FOLDER.exists():
                    _measure_embedding(_Session(spark), f"{folder}/{model}", model, n_texts)
            _measure_quiet_day(f"{folder}/static", arguments.customers)
    finally:
        spark.stop()
    return 0


def _settings(folder: str, model: str, engine: str) -> Settings:
    return Settings(f"{folder}/lake", f"{folder}/models", "", "", "", engine=engine, text=Text(model=model))


def _measure_embedding(session: _Session, folder: str, model: str, n_texts: int) -> None:
    settings = _settings(folder, model, "spark")
    lake = Lake(session, settings.lake)
    names = _make_names(n_texts)
    rows = pl.DataFrame({"product_id": [f"{n:07}" for n in range(n_texts)], "name": names}).with_columns(
        day=pl.lit(date(1970, 1, 1)),
        price=pl.lit(None, pl.Decimal(18, 4)),
        **dict.fromkeys(("brand", "category", "currency", "price_rule"), pl.lit(None, pl.String)),
    )
    lake.replace_rows(products.TABLE, rows.select(products.TABLE.columns).to_arrow().cast(products.TABLE.arrow_schema))
    text_model = load_text_model(settings, DAY)
    texts.run(Lake(session, f"{folder}/warm"), settings, text_model, DAY)
    started = time.perf_counter()
    texts.run(lake, settings, text_model, DAY)
    seconds = time.perf_counter() - started
    measure.check_at_most(f"{n_texts:,} texts by {model} on Spark", seconds, MAX_SECONDS[model], " s")
    some = names[: n_texts // 10]
    measure.log(
        f"one text after the other: {_measure_loop(text_model, some) * n_texts / len(some):.1f} s, of {len(some):,} texts"
    )


def _make_names(n: int) -> list[str]:
    random = np.random.default_rng(1)
    return [f"{' '.join(random.choice(_WORDS, random.integers(2, 8)))} {number}" for number in range(n)]


def _measure_loop(model: TextModel, names: list[str]) -> float:
    if isinstance(model, StaticModel):
        from wordllama import WordLlama

        wordllama = WordLlama.load(disable_download=True)
        encode = wordllama.embed
    else:
        encode = model.encode
    started = time.perf_counter()
    for name in names:
        encode([name])
    return time.perf_counter() - started


def _measure_quiet_day(folder: str, n_customers: int) -> None:
    """A day after HISTORY_DAYS days, on which nobody does anything."""
    settings = _settings(folder, "static", "local")
    lake = Lake(None, settings.lake)
    random = np.random.default_rng(2)
    per_day = n_customers * ITEMS // HISTORY_DAYS
    for age in range(1, HISTORY_DAYS + 1):
        day = DAY - timedelta(days=age)
        rows = pl.DataFrame(
            {"customer": random.integers(0, n_customers, per_day), "product": random.integers(0, 20_000, per_day)}
        )
        rows = rows.group_by("customer", "product").agg(n=pl.len().cast(pl.Int64)).select(
            customer_id=pl.col("customer").cast(pl.String), day=pl.lit(day), identified_on=pl.lit(day),
            known_until=pl.lit(date.max), kind=pl.lit("view"), item=pl.col("product").cast(pl.String).str.zfill(7), n="n",
        )  # fmt: skip
        lake.replace_rows(item_days.TABLE, rows.to_arrow().cast(item_days.TABLE.arrow_schema), [day])
    model = load_text_model(settings, DAY)
    interests.run(lake, settings, [DAY - timedelta(days=1)], [], model)
    started = time.perf_counter()
    item_days.run(lake, settings, [DAY])
    texts.run(lake, settings, model, DAY)
    interests.run(lake, settings, [DAY], [], model)
    label = f"a day without events: {n_customers:,} customers with {ITEMS} items"
    measure.check_at_most(label, time.perf_counter() - started, MAX_SECONDS_OF_QUIET_DAY, " s")


if __name__ == "__main__":
    raise SystemExit(main())
