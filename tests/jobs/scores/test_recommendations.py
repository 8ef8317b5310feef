"""scores.recommendations: which products a customer gets, and which are left out."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from jobs.cli.models import print_models
from jobs.config.settings import Scores, load_settings
from jobs.engine.lazy_session import LazySession
from jobs.scores import _recommender_training, recommendations
from jobs.scores._factors import RANK, fold_in
from jobs.scores._inputs import ACTIVE, ASSIGNMENTS
from jobs.scores._interactions import EVENTS, ORDERS, Shop, list_signals
from jobs.scores._recommender_training import PRODUCTS, TEST_DAYS
from jobs.scores.recommendations import LENGTH, TABLE, recommend_products
from jobs.segment_history import HISTORY
from jobs.storage import models
from jobs.storage.lake import Lake

DAY = date(2024, 6, 1)
GROUP_SIZE, TASTE_SIZE = 60, 30  # customers, and products that they like
FOREVER = date.max
DEFAULTS = Scores()


def days_ago(n: int) -> date:
    return DAY - timedelta(days=n)


def order(customer: str, product: str, ago: int, **differences) -> dict:
    """Return a row of clean.orders."""
    day = days_ago(ago)
    row = {"customer_id": customer, "product_id": product, "line_kind": "product", "category": None, "quantity": Decimal(1),
           "status": "placed", "returned_at": None, "day": day, "known_from": day, "known_until": FOREVER}  # fmt: skip
    return row | differences


def event(customer: str | None, product: str, ago: int, **differences) -> dict:
    """Return a row of clean.events."""
    day = days_ago(ago)
    row = {"customer_id": customer, "former_customer_id": None, "shared_since": None, "identified_on": day, "is_bot": False,
           "event_type": "view", "product_id": product, "category": None, "day": day}  # fmt: skip
    return row | differences


def buy_by_taste(seed: int = 1) -> list[dict]:
    """Return the orders of two groups, a and b, who buy by their taste on two days before the test and on one within."""
    random = np.random.default_rng(seed)
    return [
        order(f"{taste}{number:02}", f"{taste}-{product:02}", ago)
        for taste in "ab"
        for number in range(GROUP_SIZE)
        for ago in (60, 45, 10)
        for product in random.permutation(TASTE_SIZE)[:5]
    ]


def buy_at_random(seed: int = 1) -> list[dict]:
    random = np.random.default_rng(seed)
    products = [f"p-{number:02}" for number in range(TASTE_SIZE)]
    chances = np.arange(1, TASTE_SIZE + 1) / np.arange(1, TASTE_SIZE + 1).sum()
    return [
        order(f"c{number:02}", product, ago)
        for number in range(GROUP_SIZE * 2)
        for ago in (60, 45, 10)
        for product in random.choice(products, 4, replace=False, p=chances)
    ]


def fit_alternately(interactions: pa.Table, n_products: int) -> np.ndarray:
    """Fit factors as MLlib does, by least squares of products and customers in turn."""
    customers, products, weights = (interactions[name].to_numpy() for name in ("customer", "product", "weight"))
    factors = np.abs(np.random.default_rng(1).normal(size=(n_products, RANK))).astype(np.float32) / RANK
    by_product = np.lexsort((customers, products))
    for _ in range(5):
        of_customers = fold_in(factors, customers, products, weights, int(customers.max()) + 1)
        factors = fold_in(of_customers, products[by_product], customers[by_product], weights[by_product], n_products)
    return factors


@pytest.fixture(autouse=True)
def factors_without_spark(monkeypatch):
    monkeypatch.setattr(_recommender_training, "_fit_in_spark", lambda lake, seed: fit_alternately)


@pytest.fixture
def write_shop(tmp_path):
    """Return a function that writes orders, events and what else is known, and returns the lake and settings.

    Customers are those of orders and events and the `others`. Segments are by customer; those of `dormant` are not active.
    """

    def write(orders, events=(), products=(), segments=None, others=(), dormant=(), scores=DEFAULTS):
        lake = Lake(None, str(tmp_path / "lake"))
        for table, rows in ((ORDERS, orders), (EVENTS, events), (PRODUCTS, products)):
            if rows:
                lake.replace_rows(table, pa.Table.from_pylist(list(rows), table.arrow_schema))
        ids = sorted({row["customer_id"] for row in [*orders, *events]} | {*others})
        days = (DAY, DAY + timedelta(days=1))
        customers = [{"customer_id": c, "day": day, "is_active": c not in dormant} for c in ids for day in days]
        lake.replace_rows(ACTIVE, pa.Table.from_pylist(customers, ACTIVE.arrow_schema))
        rows = [{"customer_id": c, "day": DAY, "segment_id": s} for c, s in (segments or {}).items()]
        lake.replace_rows(ASSIGNMENTS, pa.Table.from_pylist(rows, ASSIGNMENTS.arrow_schema))
        return lake, replace(load_settings({}), lake=lake.root, models=str(tmp_path / "models"), scores=scores)

    return write


def read_lists(lake: Lake, day: date = DAY) -> dict[str, list[str]]:
    """Return the products of each customer in the order of their ranks."""
    rows = pl.DataFrame(pl.from_arrow(lake.read_arrow(TABLE, days=[day]))).sort("customer_id", "rank")
    return dict(rows.group_by("customer_id", maintain_order=True).agg("product_id").iter_rows())


def read_meta(settings) -> dict:
    (version,) = models.versions(settings.models, models.RECOMMENDATIONS)
    return models.meta(settings.models, version, models.RECOMMENDATIONS)


def test_a_list_has_products_of_the_customers_taste(write_shop):
    lake, settings = write_shop(buy_by_taste())
    assert recommendations.run(lake, settings, DAY, retrain=False) is None
    lists, meta = read_lists(lake), read_meta(settings)
    assert len(lists) == 2 * GROUP_SIZE
    assert all(len(set(products)) == LENGTH for products in lists.values())
    assert np.mean([product[0] == customer[0] for customer, products in lists.items() for product in products]) > 0.99
    assert meta["method"] in ("co_purchase", "als", "blend")
    assert meta["backtest"]["figures"][meta["method"]]["ndcg_interval"][0] > meta["backtest"]["figures"]["popularity"]["ndcg"]
    rows = pl.DataFrame(pl.from_arrow(lake.read_arrow(TABLE)))
    assert set(rows["method"]) <= {"co_purchase", "als", "popularity"}
    assert rows.sort("customer_id", "rank").select((pl.col("score").diff() <= 0).over("customer_id").all()).item()


def test_popularity_is_published_where_nothing_beats_it(write_shop, capsys):
    lake, settings = write_shop(buy_at_random())
    recommendations.run(lake, settings, DAY, retrain=False)
    assert (read_meta(settings)["method"], read_meta(settings)["reason"]) == (
        "popularity", "nothing is better than popularity in NDCG",
    )  # fmt: skip
    assert set(lake.read_arrow(TABLE)["method"].to_pylist()) == {"popularity"}
    capsys.readouterr()
    print_models(settings.models, models.RECOMMENDATIONS)
    assert re.search(r"products offered +method +NDCG +of popularity[^\n]*\n.*\n.* 120 +30 +popularity ", capsys.readouterr().out)


def test_what_was_bought_is_left_out_unless_it_is_bought_again(write_shop):
    """The five foods are bought by everyone on two days; each of the gifts is bought by a customer once."""
    random = np.random.default_rng(1)
    tastes = [(f"a{n:02}", random.permutation(np.arange(5, 40))[:6]) for n in range(GROUP_SIZE)]
    orders = [order(customer, f"a-{p:02}", 20 - 2 * i, category="gift") for customer, some in tastes for i, p in enumerate(some)]
    foods = [f"a-{p:02}" for p in range(5)]
    orders += [order(customer, food, ago, category="food") for customer, _ in tastes for food in foods for ago in (25, 5)]
    lake, settings = write_shop(orders)
    recommendations.run(lake, settings, DAY, retrain=False)
    lists = read_lists(lake)
    bought_once = {customer: {f"a-{p:02}" for p in some} for customer, some in tastes}
    assert not [customer for customer, products in lists.items() if bought_once[customer] & set(products)]
    assert all(set(foods) & set(products) for products in lists.values())


def test_what_is_not_offered_is_left_out(write_shop):
    gone = [order(f"a{n:02}", "sold-out", 100) for n in range(GROUP_SIZE)] + [order(f"a{n:02}", "delisted", 5) for n in range(50)]
    orders = [*buy_by_taste(), *gone]
    listed = sorted({row["product_id"] for row in orders} - {"delisted"})
    products = [{"product_id": p, "day": date(2020, 1, 1), "name": p, "category": p[0]} for p in listed]
    lake, settings = write_shop(orders, products=products)
    recommendations.run(lake, settings, DAY, retrain=False)
    shown = {product for some in read_lists(lake).values() for product in some}
    assert {"a-00", "b-00"} <= shown
    assert not shown & {"sold-out", "delisted"}


def test_a_new_customer_gets_what_is_popular_in_their_segment_or_in_the_shop(write_shop):
    segments = {f"{taste}{n:02}": number for number, taste in ((1, "a"), (2, "b")) for n in range(GROUP_SIZE)}
    lake, settings = write_shop(buy_by_taste(), segments=segments | {"new-a": 1, "new-b": 2}, others=["new-a", "new-b", "nobody"])
    recommendations.run(lake, settings, DAY, retrain=False)
    rows = pl.DataFrame(pl.from_arrow(lake.read_arrow(TABLE, days=[DAY])))
    for customer, taste in (("new-a", "a"), ("new-b", "b")):
        of_customer = rows.filter(pl.col("customer_id") == customer)
        assert set(of_customer["method"]) == {"segment_popularity"}
        assert (of_customer["product_id"].str.head(1) == taste).mean() >= 0.8
    of_nobody = rows.filter(pl.col("customer_id") == "nobody")
    assert (len(of_nobody), set(of_nobody["method"])) == (LENGTH, {"popularity"})


def test_a_new_customer_gets_what_is_popular_in_the_shop_where_that_of_segments_was_not_better(write_shop):
    """In the segments, whom a customer is like is left to chance."""
    segments = {f"{taste}{n:02}": 1 + n % 2 for taste in "ab" for n in range(GROUP_SIZE)} | {"new": 1}
    lake, settings = write_shop(buy_by_taste(), segments=segments)
    held = [{"customer_id": c, "segment_id": s, "valid_from": days_ago(90), "valid_to": None} for c, s in segments.items()]
    lake.replace_rows(HISTORY, pa.Table.from_pylist(held, HISTORY.arrow_schema))
    recommendations.run(lake, settings, DAY, retrain=False)
    assert "segment_popularity" in read_meta(settings)["backtest"]["figures"]
    assert "segment_popularity" not in lake.read_arrow(TABLE)["method"].to_pylist()


def test_a_dormant_customer_gets_no_list(write_shop):
    lake, settings = write_shop(buy_by_taste(), dormant=["a00"])
    recommendations.run(lake, settings, DAY, retrain=False)
    assert sorted(read_lists(lake))[:2] == ["a01", "a02"]


@pytest.mark.parametrize(
    ("orders", "scores", "reason"),
    [
        ([], Scores(), f"0 customers bought a product by {DAY}, fewer than scores.min_buyers = 50"),
        (buy_by_taste(), Scores(min_buyers=500), f"120 customers bought a product by {DAY}, fewer than scores.min_buyers = 500"),
        ([order(f"c{n}", f"p{n % 9}", 5) for n in range(60)], Scores(), f"9 products are offered on {DAY}, no more than the 10"),
    ],
    ids=["no orders", "too few buyers", "too few products"],
)
def test_without_enough_orders_or_products_the_table_is_empty_and_says_so(write_shop, orders, scores, reason):
    lake, settings = write_shop(orders, others=["c"], scores=scores)
    omission = recommendations.run(lake, settings, DAY, retrain=False)
    assert omission.startswith(reason)
    assert read_lists(lake) == {}
    assert models.champion(settings.models, DAY, models.RECOMMENDATIONS) is None


def test_a_young_shop_gets_popularity_because_nothing_can_be_compared(write_shop):
    orders = [row | {"day": days_ago(5), "known_from": days_ago(5)} for row in buy_by_taste()]
    lake, settings = write_shop(orders, [event(f"v{n}", "a-00", ago) for n in range(60) for ago in (40, 5)])
    recommendations.run(lake, settings, DAY, retrain=False)
    reason = f"0 customers bought a product by {days_ago(TEST_DAYS)}, fewer than scores.min_buyers = 50"
    assert read_meta(settings)["reason"] == f"contestants cannot be compared: {reason}"
    assert set(lake.read_arrow(TABLE)["method"].to_pylist()) == {"popularity"}


@pytest.mark.parametrize(
    ("earlier_products", "earlier_ago", "reason"),
    [
        ("old", 200, f"contestants cannot be compared: 0 products are offered on {days_ago(30)}, no more than the 10 of a list"),
        ("a", 60, f"0 customers known on {days_ago(30)} bought since, too few to compare contestants"),
    ],
    ids=["all products are new", "nobody came back"],
)
def test_where_nothing_can_be_compared_popularity_is_published(write_shop, earlier_products, earlier_ago, reason):
    orders = [order(f"e{n}", f"{earlier_products}-{n % 30:02}", earlier_ago) for n in range(GROUP_SIZE)]
    lake, settings = write_shop(orders + [row for row in buy_by_taste() if row["day"] == days_ago(10)])
    recommendations.run(lake, settings, DAY, retrain=False)
    assert (read_meta(settings)["method"], read_meta(settings)["reason"]) == ("popularity", reason)


def test_a_day_again_has_the_same_rows_and_the_next_day_the_same_model(write_shop):
    lake, settings = write_shop(buy_by_taste())
    for day in (DAY, DAY + timedelta(days=1)):
        recommendations.run(lake, settings, day, retrain=False)
    before = lake.read_arrow(TABLE, days=[DAY])
    assert len(models.versions(settings.models, models.RECOMMENDATIONS)) == 1
    assert len(read_lists(lake, DAY + timedelta(days=1))) == 2 * GROUP_SIZE
    recommendations.run(lake, settings, DAY, retrain=True)
    assert lake.read_arrow(TABLE, days=[DAY]).equals(before)
    assert len(models.versions(settings.models, models.RECOMMENDATIONS)) == 1


def test_what_a_customer_did_since_the_fit_changes_their_list(write_shop):
    lake, settings = write_shop(buy_by_taste(), others=["new"])
    recommendations.run(lake, settings, DAY, retrain=False)
    visits = [event("new", f"b-{n:02}", 0, event_type="add_to_cart", day=DAY + timedelta(days=1)) for n in range(3)]
    lake.replace_rows(EVENTS, pa.Table.from_pylist(visits, EVENTS.arrow_schema))
    recommendations.run(lake, settings, DAY + timedelta(days=1), retrain=False)
    assert {product[0] for product in read_lists(lake)["new"]} == {"a", "b"}
    assert np.mean([product[0] == "b" for product in read_lists(lake, DAY + timedelta(days=1))["new"]]) >= 0.8


def test_buckets_give_the_rows_of_one_bucket(write_shop):
    lake, settings = write_shop(buy_by_taste())
    version, recommender = _recommender_training.prepare_champion(lake, settings, DAY, retrain=False)
    tables = {"customers": lake.read_arrow(ACTIVE, days=[DAY]), "segments": lake.read_arrow(ASSIGNMENTS),
              "orders": lake.read_arrow(ORDERS), "events": EVENTS.arrow_schema.empty_table()}  # fmt: skip

    def score(customers: list[str]) -> pa.Table:
        is_in = {
            name: rows.filter(pa.compute.is_in(rows["customer_id"], pa.array(customers, pa.string())))
            for name, rows in tables.items()
        }
        return recommend_products(is_in, recommender, version, DAY, Shop(has_orders=True))["recommendations"]

    names = sorted(tables["customers"]["customer_id"].to_pylist())
    parts = pa.concat_tables([score(names[::7]), score([name for name in names if name not in names[::7]])])
    assert parts.sort_by([("customer_id", "ascending"), ("rank", "ascending")]).equals(score(names))


def test_spark_in_several_buckets_gives_the_rows_of_one_process(write_shop, spark, monkeypatch):
    lake, settings = write_shop(buy_by_taste(), events=[event(f"a{n:02}", "b-00", 3) for n in range(9)])
    recommendations.run(lake, settings, DAY, retrain=False)
    before = lake.read_arrow(TABLE).sort_by([("customer_id", "ascending"), ("rank", "ascending")])
    monkeypatch.setattr(recommendations, "CUSTOMERS_PER_BUCKET", 50)
    session = LazySession("tests", lambda name, is_short: spark)
    recommendations.run(Lake(session, lake.root), replace(settings, engine="spark"), DAY, retrain=False)
    assert lake.read_arrow(TABLE).sort_by([("customer_id", "ascending"), ("rank", "ascending")]).equals(before)


def list_products(orders=(), events=(), has_orders=True, owners=None) -> list[tuple[str, str, str]]:
    """Return (customer, product, kind) of the signals that are known on DAY."""
    tables = {
        "orders": pa.Table.from_pylist(list(orders), ORDERS.arrow_schema),
        "events": pa.Table.from_pylist(list(events), EVENTS.arrow_schema),
    }
    signals = list_signals(tables, DAY, Shop(has_orders, owners=owners or {}))
    return sorted(signals.select("customer_id", "product_id", "kind").iter_rows())


def test_an_order_counts_as_it_was_known_on_the_day():
    tomorrow, noon = DAY + timedelta(days=1), datetime(2024, 6, 1, 12, tzinfo=UTC)
    rows = [
        order("c", "kept", 0),
        order("c", "of tomorrow", -1),
        order("c", "changed tomorrow", 3, known_until=tomorrow),
        order("c", "as changed tomorrow", 3, known_from=tomorrow),
        order("c", "changed before", 3, known_until=DAY),
        order("c", "cancelled", 3, status="cancelled", returned_at=noon),
        order("c", "cancelled tomorrow", 3, status="cancelled", returned_at=noon + timedelta(days=1)),
        order("c", "partly returned", 3, status="partly_returned", returned_at=noon),
        order("c", "a return", 3, quantity=Decimal(0)),
        order(None, "of a guest", 3),
    ]
    kept = ["cancelled tomorrow", "changed tomorrow", "kept", "partly returned"]
    assert list_products(rows) == [("c", product, "purchase") for product in kept]


def test_an_event_counts_for_whom_it_was_known_to_be_on_the_day():
    tomorrow = DAY + timedelta(days=1)
    rows = [
        event("c", "kept", 1),
        event("c", "of tomorrow", -1, identified_on=DAY),
        event("c", "identified tomorrow", 1, identified_on=tomorrow),
        event(None, "shared before", 1, former_customer_id="c", shared_since=DAY),
        event(None, "shared tomorrow", 1, former_customer_id="c", shared_since=tomorrow),
        event("part", "of an account that is part of another", 1),
        event("c", "long ago", 180),
        event("c", "bought", 1, event_type="purchase"),
    ]
    kept = ["kept", "of an account that is part of another", "shared tomorrow"]
    owners = {"part": "c"}
    assert list_products(events=rows, owners=owners) == [("c", product, "view") for product in kept]
    assert ("c", "bought", "purchase") in list_products(events=rows, has_orders=False, owners=owners)
