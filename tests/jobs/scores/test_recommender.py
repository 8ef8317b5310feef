"""The parts of a recommender: factors as MLlib has them, the largest scores, measures of lists, and what marks a segment."""

from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from jobs.scores import _factors
from jobs.scores._factors import RANK, fit_factors, fold_in
from jobs.scores._products import describe_products, find_co_purchases, find_similar_content
from jobs.scores._ranking import Decision, choose_contestant, choose_weights, measure_lists
from jobs.scores._recommender import LENGTH, find_largest
from jobs.scores._segment_products import summarize_segments

DAY = date(2024, 6, 1)


def draw_interactions(n_customers: int, n_products: int) -> pa.Table:
    random = np.random.default_rng(1)
    pairs = np.unique(random.integers(0, [n_customers, n_products], (n_customers * 6, 2)), axis=0)
    columns = [pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int32), random.random(len(pairs)).astype(np.float32) + 0.5]
    return pa.table(columns, names=["customer", "product", "weight"])


def test_customers_that_are_folded_in_have_the_factors_that_mllib_gives_them(spark):
    from pyspark.ml.recommendation import ALS

    interactions = draw_interactions(40, 25)
    als = ALS(
        rank=RANK, maxIter=3, regParam=_factors.REGULARIZATION, alpha=_factors.CONFIDENCE, implicitPrefs=True, seed=1,
        userCol="customer", itemCol="product", ratingCol="weight",
    )  # fmt: skip
    model = als.fit(spark.createDataFrame(interactions))
    products, customers = (
        np.array([row.features for row in frame.orderBy("id").collect()]) for frame in (model.itemFactors, model.userFactors)
    )
    folded = fold_in(products, *(interactions[name].to_numpy() for name in interactions.column_names), 41)
    assert folded[:40] == pytest.approx(customers, abs=1e-4)
    assert not folded[40].any()


def test_a_fit_of_the_same_interactions_gives_the_same_factors(spark):
    interactions = draw_interactions(60, 30)
    factors = fit_factors(spark, interactions, 31, seed=3)
    assert factors.shape == (31, RANK)
    assert not factors[30].any()
    assert np.array_equal(factors, fit_factors(spark, interactions, 31, seed=3))


@pytest.mark.parametrize("n_columns", [10, 300, 3001])
def test_the_largest_scores_are_those_of_a_full_sort(n_columns):
    scores = np.random.default_rng(1).normal(size=(50, n_columns)).astype(np.float32)
    largest = np.sort(find_largest(scores, LENGTH), axis=1)
    assert np.array_equal(largest, np.sort(np.argsort(-scores, axis=1)[:, :LENGTH], axis=1))


def test_the_measures_of_a_list_are_those_by_hand():
    lists = np.full((2, LENGTH), -1)
    lists[0, :4], lists[1, :2] = [5, 3, 1, 2], [0, 4]
    bought = np.array([0 * 8 + 1, 0 * 8 + 5])  # of the first customer, who also bought one that is not offered
    figures = measure_lists(lists, bought, np.array([3, 1]), np.array([0.5] * 8))
    assert figures.precision.tolist() == [0.2, 0]
    assert figures.recall.tolist() == [pytest.approx(2 / 3), 0]
    assert figures.average_precision.tolist() == [pytest.approx((1 / 1 + 2 / 3) / 3), 0]
    gain, ideal = 1 + 1 / np.log2(4), 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert figures.ndcg.tolist() == [pytest.approx(gain / ideal), 0]
    assert figures.novelty.tolist() == [1, 1]


def to_figures(hit_rates: np.ndarray):
    """Return the figures of lists whose first product is a hit as often as said."""
    n = len(hit_rates)
    lists = np.full((n, LENGTH), -1)
    lists[:, 0] = 0
    bought = np.flatnonzero(np.random.default_rng(5).random(n) < hit_rates) * 2
    return measure_lists(lists, bought, np.ones(n, int), np.array([0.5, 0.5]))


def test_a_contestant_is_published_only_where_it_is_better_than_all_simpler_ones():
    weak, strong = to_figures(np.full(2000, 0.1)), to_figures(np.full(2000, 0.3))
    assert choose_contestant({"popularity": weak, "als": weak}, 1) == Decision(
        "popularity", "nothing is better than popularity in NDCG"
    )
    decision = choose_contestant({"popularity": weak, "co_purchase": strong, "als": strong, "blend": weak}, 1)
    assert decision == Decision(
        "co_purchase", "co_purchase is better than popularity and blend in NDCG; als is not better than it"
    )
    assert choose_contestant({"popularity": weak, "co_purchase": weak, "als": strong}, 1).method == "als"


def test_a_component_that_is_not_better_than_popularity_has_no_part_in_a_blend():
    figures = {"popularity": to_figures(np.full(2000, 0.2)), "co_purchase": to_figures(np.full(2000, 0.1))}
    assert choose_weights(figures, np.arange(2000)) == {}
    figures |= {"content": to_figures(np.full(2000, 0.3)), "als": to_figures(np.full(2000, 0.6))}
    weights = choose_weights(figures, np.arange(2000))
    assert list(weights) == ["content", "als"]
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["als"] > 2 * weights["content"]


def weigh(customer: str, product: str, bought_days: int = 1) -> dict:
    return {"customer_id": customer, "product_id": product, "weight": 1.0, "bought_days": bought_days, "last_day": DAY}


def test_a_product_is_repeatable_by_its_own_buyers_and_one_of_few_by_those_of_its_category():
    rows = [weigh(f"c{n}", "milk", 1 + (n < 20)) for n in range(100)] + [weigh(f"c{n}", "sofa") for n in range(100)]
    rows += [weigh("c1", "cream"), weigh("c1", "chair")]
    categories = pl.DataFrame(
        {"product_id": ["milk", "cream", "sofa", "chair"], "category": ["dairy", "dairy", "seats", "seats"]}
    )
    listed = pl.DataFrame(schema={"product_id": pl.String, "name": pl.String, "category": pl.String, "day": pl.Date})
    products = describe_products(pl.DataFrame(rows), categories, listed, DAY)
    assert dict(products.select("product_id", "is_repeatable").iter_rows()) == {
        "chair": False, "cream": True, "milk": True, "sofa": False,
    }  # fmt: skip


def test_products_of_the_same_words_are_alike_and_a_word_of_all_says_nothing():
    names = ["red wool scarf", "blue wool scarf", "red clay pot", "steel pot", "the"]
    products = pl.DataFrame(
        {"name": [f"the {name}" for name in names], "category": [None] * len(names)}, schema_overrides={"category": pl.String}
    )
    similar = find_similar_content(products, np.arange(len(names))).toarray()
    assert similar[0].argmax() == 1
    assert similar[3].argmax() == 2
    assert not similar[:, 4].any()
    assert not similar.diagonal().any()


def test_products_that_the_same_customers_bought_are_alike_and_those_of_few_less():
    """Customers 0 to 39 bought products 0 and 1, customer 40 products 2 and 3."""
    customers, products = [*range(40), *range(40), 40, 40], [0] * 40 + [1] * 40 + [2, 3]
    similar = find_co_purchases(np.array(customers), np.array(products), 4, np.array([1, 2, 3])).toarray()
    assert similar[0].tolist() == [pytest.approx(40 / 50), 0, 0]
    assert similar[2].tolist() == [0, 0, pytest.approx(1 / 11)]


def test_a_segment_is_marked_by_what_it_buys_more_than_others_and_pairs_by_more_than_chance():
    rows = [weigh(f"a{n}", product) for n in range(20) for product in ("tea", "pot")]
    rows += [weigh(f"a{n}", "soap") for n in range(10)] + [weigh(f"b{n}", "soap") for n in range(80)] + [weigh("a20", "milk")]
    segments = pl.DataFrame([{"customer_id": f"{s}{n}", "segment_id": i} for i, s in ((1, "a"), (2, "b")) for n in range(90)])
    products = pl.DataFrame(
        {"product_id": ["tea", "pot", "soap", "milk"], "name": ["Tea", "Pot", None, "Milk"], "category": ["x"] * 4}
    )
    first, second = summarize_segments(pl.DataFrame(rows), segments, products, min_cell=5)
    assert [(row["name"], row["buyers"], row["lift"]) for row in first["products"]] == [
        ("Pot", 20, pytest.approx(101 / 21)), ("Tea", 20, pytest.approx(101 / 21)),
    ]  # fmt: skip
    assert [(row["names"], row["buyers"], row["lift"]) for row in first["pairs"][:1]] == [
        (["Pot", "Tea"], 20, pytest.approx(21 / 20))
    ]
    assert (second["segment_id"], second["buyers"], second["pairs"]) == (2, 80, [])
