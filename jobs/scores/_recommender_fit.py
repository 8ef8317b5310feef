"""Fit a recommender on what customers did until a day, and compare contestants on what customers bought after an earlier one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from scipy import sparse

from jobs.scores._factors import fold_in
from jobs.scores._products import describe_products, find_co_purchases, find_similar_content
from jobs.scores._ranking import CONTESTANTS, Decision, Figures, choose_contestant, choose_weights, is_better, measure_lists
from jobs.scores._recommender import (
    ALS,
    BLEND,
    CO_PURCHASE,
    CONTENT,
    PERSONAL,
    POPULARITY,
    SEGMENT_POPULARITY,
    Interactions,
    Recommender,
    number_interactions,
)

MAX_TESTED = 20_000  # customers by whom contestants are compared
POPULARITY_HALF_LIFE_DAYS = 14  # after which a buyer counts half for the popularity of a product
SEGMENT_PRIOR = 50.0  # buyers of the whole shop that a segment has besides its own
_SCALED_ON = 2_000  # customers

# (customer INT, product INT, weight FLOAT), number of products -> factors (products x rank)
FitFactors = Callable[[pa.Table, int], np.ndarray]


class History(NamedTuple):
    """What is known on a day: weigh_signals() rows, (product_id, category), the shop's list of products, and segments."""

    day: date
    weighed: pl.DataFrame
    categories: pl.DataFrame
    listed: pl.DataFrame
    segments: pl.DataFrame  # customer_id, segment_id


class Comparison(NamedTuple):
    """How contestants did, which is published, with which weights of the components, and whether the prior is the segment's."""

    decision: Decision
    weights: Mapping[str, float]
    uses_segments: bool
    figures: Mapping[str, Figures]
    n_customers: int


def fit_recommender(history: History, fit_factors: FitFactors | None) -> Recommender:
    """Return a recommender without weights. Without `fit_factors` it has no factors."""
    products = describe_products(history.weighed, history.categories, history.listed, history.day)
    offered = products["is_offered"].arg_true().to_numpy().astype(np.int64)
    customers = history.weighed["customer_id"].unique().sort()
    interactions = number_interactions(history.weighed, customers, products)
    bought = number_interactions(history.weighed.filter(pl.col("bought_days") > 0), customers, products)
    segments, priors = _find_priors(history, products, offered)
    recommender = Recommender(
        products,
        offered,
        np.zeros((len(products), 1), np.float32),
        {
            CO_PURCHASE: find_co_purchases(bought.customers, bought.products, len(products), offered),
            CONTENT: find_similar_content(products, offered),
        },
        segments,
        priors,
    )
    if fit_factors is None:
        return recommender
    columns = [interactions.customers.astype(np.int32), interactions.products.astype(np.int32), interactions.weights]
    factors = fit_factors(pa.table(columns, names=["customer", "product", "weight"]), len(products))
    return replace(recommender, factors=factors, als_scale=_find_scale(factors, interactions, offered, len(customers)))


def _find_scale(factors: np.ndarray, interactions: Interactions, offered: np.ndarray, n_customers: int) -> float:
    """Return the mean of customers' largest scores by factors."""
    n = min(n_customers, _SCALED_ON)
    last = np.searchsorted(interactions.customers, n)
    own = fold_in(factors, *(values[:last] for values in interactions[:3]), n)
    return float((own @ factors[offered].T).max(axis=1).mean()) or 1.0


def _find_priors(history: History, products: pl.DataFrame, offered: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the segments, and the popularity of offered products in all and in each segment, at most 1.

    The popularity is the number of buyers, those of long ago less. A segment has SEGMENT_PRIOR buyers of the shop too.
    """
    weighed = history.weighed
    bought = weighed.filter(pl.col("bought_days") > 0)
    rows = (bought if len(bought) else weighed).join(history.segments, "customer_id", "left")
    rows = rows.join(products.select("product_id").with_row_index("product"), "product_id", "inner")
    age = (pl.lit(history.day) - pl.col("last_day")).dt.total_days()
    rows = rows.with_columns(buyers=0.5 ** (age / POPULARITY_HALF_LIFE_DAYS)).sort("customer_id", "product")
    segments = tuple(history.segments["segment_id"].drop_nulls().unique().sort().to_list())

    def count_buyers(of_segment: pl.DataFrame) -> np.ndarray:
        return np.bincount(of_segment["product"].to_numpy(), of_segment["buyers"].to_numpy(), len(products))[offered]

    in_all = count_buyers(rows)
    shares = in_all / max(in_all.sum(), 1e-9)
    priors = [in_all, *(count_buyers(rows.filter(pl.col("segment_id") == s)) + SEGMENT_PRIOR * shares for s in segments)]
    return segments, np.array([prior / max(prior.max(initial=0), 1e-9) for prior in priors], np.float32)


def compare_contestants(recommender: Recommender, earlier: History, since: pl.DataFrame, seed: int) -> Comparison:
    """Compare contestants on (customer_id, product_id) bought `since`, by the customers who had done anything before.

    The prior of the personal ones is the popularity in the segment, unless segments were known then and it is not better.
    """
    had_done = earlier.weighed.select("customer_id").unique()
    buyers = since.join(had_done, "customer_id", "semi").select("customer_id").unique()
    tested = buyers.sort(pl.col("customer_id").hash(seed), "customer_id").head(MAX_TESTED).with_row_index("customer")
    bought = since.join(tested, "customer_id", "inner")
    n_bought = np.bincount(bought["customer"].to_numpy(), minlength=len(tested))
    places = recommender.products[recommender.offered].select("product_id").with_row_index("place")
    hits = bought.join(places, "product_id", "inner")
    keys = np.sort(hits["customer"].to_numpy().astype(np.int64) * len(places) + hits["place"].to_numpy())
    interactions = number_interactions(earlier.weighed, tested["customer_id"], recommender.products)
    segments = find_segments(tested["customer_id"], earlier.segments)
    shares = _find_shares(earlier.weighed, places)

    def show(weights: Mapping[str, float], uses_segments: bool) -> np.ndarray:
        return replace(recommender, weights=weights, uses_segments=uses_segments).recommend(interactions, segments).products

    def measure(lists: np.ndarray) -> Figures:
        return measure_lists(lists, keys, n_bought, shares)

    figures = {POPULARITY: measure(show({}, False))}
    if recommender.segments:
        figures[SEGMENT_POPULARITY] = measure(show({}, True))
    uses_segments = not recommender.segments or is_better(figures[SEGMENT_POPULARITY], figures[POPULARITY], seed)
    named = [name for name in PERSONAL if name == ALS or recommender.similarities[name].nnz]
    figures |= {name: measure(show({name: 1.0}, uses_segments)) for name in named}
    weights = choose_weights(figures, np.arange(len(tested)))
    if len(weights) > 1:
        figures[BLEND] = measure(_blend_halves(partial(show, uses_segments=uses_segments), figures, len(tested)))
    decision = choose_contestant(figures, seed)
    of_method = {BLEND: weights, POPULARITY: {}, SEGMENT_POPULARITY: {}}.get(decision.method, {decision.method: 1.0})
    ordered = {name: figures[name] for name in CONTESTANTS if name in figures}
    return Comparison(decision, of_method, uses_segments and decision.method != POPULARITY, ordered, len(tested))


def _blend_halves(show: Callable[[Mapping[str, float]], np.ndarray], figures: Mapping[str, Figures], n: int) -> np.ndarray:
    """Return blended lists: half of the customers have those by weights that the other half has chosen."""
    half = np.arange(n) % 2
    lists = [show(choose_weights(figures, np.flatnonzero(half != number))) for number in (0, 1)]
    return np.where(half[:, None] == 0, *lists)


def find_segments(customers: pl.Series, segments: pl.DataFrame) -> np.ndarray:
    """Return the segment of each customer out of (customer_id, segment_id), -1 where it is not known."""
    rows = pl.DataFrame({"customer_id": customers}).join(segments, "customer_id", "left", maintain_order="left")
    return rows["segment_id"].fill_null(-1).to_numpy()


def _find_shares(weighed: pl.DataFrame, places: pl.DataFrame) -> np.ndarray:
    """Return the share of buyers who bought each product; of all customers where nobody bought any."""
    bought = weighed.filter(pl.col("bought_days") > 0)
    bought = bought if len(bought) else weighed
    n_buyers = bought.group_by("product_id").len("n")
    counts = places.join(n_buyers, "product_id", "left", maintain_order="left")["n"].fill_null(0).to_numpy()
    return (counts + 0.5) / max(bought["customer_id"].n_unique(), 1)  # nobody's product is surprising, not infinitely so


def to_files(recommender: Recommender) -> dict[str, pa.Table]:
    """Return the tables that a recommender is kept in, by name."""
    n = len(recommender.products)
    factors = pl.Series("factors", recommender.factors, dtype=pl.Array(pl.Float32, recommender.factors.shape[1]))
    parts = []
    for name, matrix in recommender.similarities.items():
        rows = np.repeat(np.arange(n, dtype=np.int32), np.diff(matrix.indptr))
        kind = pl.Series([name], dtype=pl.String).new_from_index(0, matrix.nnz)
        parts.append(pl.DataFrame({"kind": kind, "product": rows, "offered": matrix.indices, "similarity": matrix.data}))
    priors = pl.DataFrame(
        {
            "segment_id": pl.Series([None, *recommender.segments], dtype=pl.Int32),
            "popularity": pl.Series(recommender.priors.tolist(), dtype=pl.List(pl.Float32)),
        }
    )
    is_offered = pl.Series("is_offered", np.isin(np.arange(n), recommender.offered))
    products = recommender.products.with_columns(is_offered, factors.cast(pl.List(pl.Float32)))
    return {
        name: frame.to_arrow() for name, frame in (("products", products), ("neighbours", pl.concat(parts)), ("priors", priors))
    }


def from_files(tables: Mapping[str, pa.Table], record: Mapping) -> Recommender:
    """Return the recommender of to_files(), with the weights of to_record()."""
    products, neighbours, priors = (pl.DataFrame(pl.from_arrow(tables[name])) for name in ("products", "neighbours", "priors"))
    offered = products["is_offered"].arg_true().to_numpy().astype(np.int64)
    shape = (len(products), len(offered))
    similarities = {}
    for name in (CO_PURCHASE, CONTENT):
        rows = neighbours.filter(pl.col("kind") == name)
        places = (rows["product"].to_numpy(), rows["offered"].to_numpy())
        similarities[name] = sparse.csr_matrix((rows["similarity"].to_numpy(), places), shape, np.float32)
    return Recommender(
        products.drop("is_offered", "factors"),
        offered,
        np.array(products["factors"].to_list(), np.float32),
        similarities,
        tuple(priors["segment_id"].drop_nulls().to_list()),
        np.array(priors["popularity"].to_list(), np.float32),
        record["als_scale"],
        record["weights"],
        record["uses_segments"],
    )


def to_record(recommender: Recommender) -> dict:
    """Return what else a recommender is, as JSON knows it."""
    return {name: getattr(recommender, name) for name in ("als_scale", "weights", "uses_segments")}
