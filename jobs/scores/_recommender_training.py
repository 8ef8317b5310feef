"""The recommenders of a shop: when one is due, what it is fitted on and compared with, and where it is kept."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.config.settings import Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import COLLECT, Tables
from jobs.progress import log
from jobs.scores import _inputs, _ranking
from jobs.scores._factors import fit_factors
from jobs.scores._interactions import (
    EVENT_DAYS,
    PURCHASE,
    Shop,
    interactions_of,
    list_signals,
    read_shop,
    weigh_signals,
)
from jobs.scores._products import describe_products
from jobs.scores._ranking import Decision
from jobs.scores._recommender import ALS, LENGTH, POPULARITY, SEGMENT_POPULARITY, Recommender
from jobs.scores._recommender_fit import (
    Comparison,
    FitFactors,
    History,
    compare_contestants,
    fit_recommender,
    from_files,
    to_files,
    to_record,
)
from jobs.scores._segment_products import summarize_segments
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.table import Table

FORMAT = 1  # raise it when the same inputs are to give another recommender
TEST_DAYS = 30  # of purchases that contestants are compared on
MAX_CUSTOMERS = 200_000  # active ones whom a recommender is fitted on, by a hash: more change little of what products share
PRODUCTS = Table(
    "clean.products",
    "What the shop says of its products, from a day on.",
    "product_id STRING, day DATE, name STRING, category STRING",
)
_FAMILY = models.RECOMMENDATIONS
_HASHES = 1_000_000


def prepare_champion(lake: Lake, settings: Settings, day: date, retrain: bool) -> tuple[str, Recommender] | str:
    """Return the version and the recommender of the day's champion, fitted first where due; in words why there is none."""
    is_due = retrain or models.is_due(settings.models, day, settings.scores.retrain_every_days, _FAMILY)
    if is_due and (obstacle := _train(lake, settings, day)):
        return obstacle
    version = models.champion(settings.models, day, _FAMILY)["version"]
    read = partial(models.read, settings.models, version, family=_FAMILY)
    tables = {name: pq.read_table(io.BytesIO(read(f"{name}.parquet"))) for name in ("products", "neighbours", "priors")}
    return version, from_files(tables, json.loads(read("model.json")))


def _train(lake: Lake, settings: Settings, day: date) -> str | None:
    """Choose a contestant, fit it on what is known on the day, and make it champion from the day on; in words why not."""
    shop = read_shop(lake, settings, day)
    signals, since = _read_signals(lake, settings, day, shop)
    now, earlier = (_to_history(lake, as_of, of_day) for as_of, of_day in signals.items())
    if obstacle := _find_obstacle(now, settings.scores.min_buyers):
        return obstacle
    comparison = _compare(lake, settings, earlier, since)
    uses_factors = ALS in comparison.weights
    recommender = fit_recommender(now, _fit_in_spark(lake, settings.scores.seed) if uses_factors else None)
    recommender = replace(recommender, weights=dict(comparison.weights), uses_segments=comparison.uses_segments)
    _save(settings, day, now, recommender, comparison)
    return None


def _compare(lake: Lake, settings: Settings, earlier: History, since: pl.DataFrame) -> Comparison:
    """Compare contestants; popularity is published where too few customers bought to compare them."""
    if obstacle := _find_obstacle(earlier, settings.scores.min_buyers):
        return Comparison(Decision(POPULARITY, f"contestants cannot be compared: {obstacle}"), {}, False, {}, 0)
    tested = since.join(earlier.weighed.select("customer_id").unique(), "customer_id", "semi")["customer_id"].n_unique()
    if tested < settings.scores.min_buyers:
        reason = f"{tested} customers known on {earlier.day} bought since, too few to compare contestants"
        return Comparison(Decision(POPULARITY, reason), {}, False, {}, tested)
    recommender = fit_recommender(earlier, _fit_in_spark(lake, settings.scores.seed))
    comparison = compare_contestants(recommender, earlier, since, settings.scores.seed)
    for name, figures in comparison.figures.items():
        log(
            f"score {name:<19} NDCG {figures.ndcg.mean():.4f}, precision {figures.precision.mean():.4f}, "
            f"recall {figures.recall.mean():.4f}, MAP {figures.average_precision.mean():.4f}"
        )
    return comparison


def _fit_in_spark(lake: Lake, seed: int) -> FitFactors:
    return lambda interactions, n_products: fit_factors(lake.spark, interactions, n_products, seed)


def _find_obstacle(history: History, min_buyers: int) -> str | None:
    """Return in words why a recommender cannot be fitted; None where it can."""
    buyers = history.weighed.filter(pl.col("bought_days") > 0)["customer_id"].n_unique()
    if buyers < min_buyers:
        return f"{buyers} customers bought a product by {history.day}, fewer than scores.min_buyers = {min_buyers}"
    products = describe_products(history.weighed, history.categories, history.listed, history.day)
    if (offered := int(products["is_offered"].sum())) <= LENGTH:
        return f"{offered} products are offered on {history.day}, no more than the {LENGTH} of a list"
    return None


def _read_signals(
    lake: Lake, settings: Settings, day: date, shop: Shop
) -> tuple[dict[date, tuple[pl.DataFrame, pl.DataFrame]], pl.DataFrame]:
    """Return weigh_signals() rows and categories as of the day and TEST_DAYS before, and what was bought between.

    Of a sample of the customers.
    """
    days = (day, day - timedelta(days=TEST_DAYS))
    rows = interactions_of(lake, shop, day, EVENT_DAYS + TEST_DAYS)
    n_rows = sum(lake.count_rows(of.table.name, of.days) for of in rows.values())
    share = min(1.0, MAX_CUSTOMERS / max(_count_active(lake, day), 1)) if n_rows else 1.0
    kernel = partial(collect_history, days=days, shop=shop, share=share)
    outputs = dict.fromkeys(("now", "earlier", "since", "categories_now", "categories_earlier"), COLLECT)
    with open_runner(lake, settings, n_rows) as runner:
        collected = runner.run(kernel, runner.read(rows, count_buckets(n_rows, at_once=2)), outputs).collected
    frames = {name: pl.DataFrame(pl.from_arrow(table)) for name, table in collected.items()}
    names = dict(zip(days, ("now", "earlier"), strict=True))
    signals = {
        as_of: (
            _add_up(frames[name]),
            frames[f"categories_{name}"].group_by("product_id").agg(pl.col("category").max()).sort("product_id"),
        )
        for as_of, name in names.items()
    }
    return signals, frames["since"].sort("customer_id", "product_id")


def _add_up(weighed: pl.DataFrame) -> pl.DataFrame:
    """Return one row per customer and product. A bucket may have some of a customer's rows, where their events changed hands."""
    ordered = weighed.sort("customer_id", "product_id", "weight")  # sums depend on the order
    sums = [pl.col("weight", "bought_days").sum(), pl.col("last_day").max()]
    return ordered.group_by("customer_id", "product_id", maintain_order=True).agg(sums)


def _count_active(lake: Lake, day: date) -> int:
    return lake.count_by(_inputs.ACTIVE.name, ["is_active"], ds.field("day") == day)[True,]


def collect_history(tables: Tables, days: tuple[date, date], shop: Shop, share: float) -> Tables:
    """Return what a `share` of the customers did until each of two `days`, and bought between them; the key is the customer.

    Takes `orders` and `events`. Returns `now` and `earlier`, weigh_signals() rows; `since` (customer_id, product_id);
    `categories_now` and `categories_earlier` (product_id, category) as they were sent. About 1 µs of CPU a row.
    """
    is_sampled = pl.col("customer_id").hash(17) % _HASHES < share * _HASHES
    outputs = {}
    for name, day in zip(("now", "earlier"), days, strict=True):
        signals = list_signals(tables, day, shop).filter(is_sampled)
        outputs[name] = weigh_signals(signals, day)
        outputs[f"categories_{name}"] = signals.group_by("product_id").agg(pl.col("category").max())
        if name == "now":
            is_since = (pl.col("kind") == PURCHASE) & (pl.col("day") > pl.lit(days[1]))
            outputs["since"] = signals.filter(is_since).select("customer_id", "product_id").unique()
    return {name: rows.to_arrow() for name, rows in outputs.items()}


def _to_history(lake: Lake, day: date, signals: tuple[pl.DataFrame, pl.DataFrame]) -> History:
    listed = pl.DataFrame(pl.from_arrow(lake.read_arrow(PRODUCTS))).filter(pl.col("day") <= pl.lit(day))
    listed = listed.sort("product_id", "day").unique("product_id", keep="last", maintain_order=True)
    return History(day, *signals, listed, _inputs.read_segments(lake, day))


def _save(settings: Settings, day: date, history: History, recommender: Recommender, comparison: Comparison) -> None:
    seed, decision = settings.scores.seed, comparison.decision
    meta = {
        "day": day.isoformat(),
        "method": decision.method,
        "reason": decision.reason,
        "weights": dict(comparison.weights),
        "prior": SEGMENT_POPULARITY if recommender.uses_segments else POPULARITY,
        "customers": history.weighed["customer_id"].n_unique(),
        "products": len(recommender.products),
        "offered": len(recommender.offered),
        "repeatable": int(recommender.products["is_repeatable"].sum()),
        "backtest": {
            "day": (day - timedelta(days=TEST_DAYS)).isoformat(),
            "customers": comparison.n_customers,
            "figures": {name: _ranking.to_record(figures, seed) for name, figures in comparison.figures.items()},
        },
        "settings": asdict(settings.scores),
    }
    files = to_files(recommender)
    content = json.dumps([FORMAT, meta, to_record(recommender), {n: _hash_rows(t) for n, t in files.items()}], sort_keys=True)
    version = models.name_version(day, content)

    def write(folder: Path) -> None:
        segments = summarize_segments(history.weighed, history.segments, recommender.products, settings.segment.min_cell)
        (folder / "segments.json").write_text(json.dumps(segments, indent=1))
        write_recommender(folder, recommender, {"version": version, **meta})

    models.save_champion(settings.models, version, write, day, _FAMILY, decision.method)
    log(f"score {version} is champion from {day} on: {decision.method}; {decision.reason}")


def write_recommender(folder: Path, recommender: Recommender, meta: Mapping = MappingProxyType({})) -> None:
    """Write the files that prepare_champion() reads, and the facts of the model."""
    for name, table in to_files(recommender).items():
        pq.write_table(table, folder / f"{name}.parquet")
    (folder / "model.json").write_text(json.dumps(to_record(recommender), indent=1))
    (folder / "meta.json").write_text(json.dumps(dict(meta), indent=1))


def _hash_rows(table: pa.Table) -> str:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()
