"""Tastes change no category, price or time, and rhythms only the order of events."""

from collections import Counter
from datetime import date
from itertools import pairwise

import numpy as np
import pytest

from jobs.sample.customers import Plants
from jobs.sample.products import (
    CATEGORIES,
    DESIGNS_PER_LINE,
    N_PRODUCTS,
    NO_PRICE_SHARE,
    PRODUCTS_PER_CATEGORY,
    SEARCH_TERMS,
    draw_products,
    list_products,
)
from jobs.sample.rhythms import BROWSING, COMPARING, DIRECT, RHYTHM_NAMES, rank_views
from jobs.sample.rows import ADD, SEARCH, VIEW
from jobs.sample.shop import open_shop
from jobs.sample.tastes import TASTES
from jobs.sample.visits import draw_visits
from jobs.sample.writer import write_shop

DAY = date(2026, 3, 31)
SHOPS = {"all": Plants(), "no tastes": Plants(tastes=False), "no rhythms": Plants(rhythms=False)}


@pytest.fixture(scope="module")
def visits() -> dict:
    """Return the shop, the purchases and the events of one day by what is planted, out of the same random draws."""
    drawn = {}
    for name, plants in SHOPS.items():
        shop = open_shop(20_000, 1, 3, DAY, plants)
        shop.customers.advance(np.random.default_rng(3), 0)
        drawn[name] = shop, *draw_visits(np.random.default_rng(4), shop, DAY, 0)
    return drawn


def test_without_tastes_the_same_lines_are_viewed_and_bought_at_the_same_times(visits):
    (shop, purchases, events), (_, plain_purchases, plain_events) = visits["all"], visits["no tastes"]
    for column in ("time", "visitor", "customer", "action"):
        assert (events[column] == plain_events[column]).all(), column
    assert (events["product"] // DESIGNS_PER_LINE == plain_events["product"] // DESIGNS_PER_LINE).all()
    assert (events["product"] != plain_events["product"]).any()
    prices = shop.products.prices[0]
    assert (prices[purchases.line_product] == prices[plain_purchases.line_product]).all()


def test_without_rhythms_each_visitor_does_the_same_things_at_the_same_times_in_another_order(visits):
    (_, purchases, events), (_, plain_purchases, plain_events) = visits["all"], visits["no rhythms"]
    assert (events["time"] == plain_events["time"]).all()
    assert (purchases.line_product == plain_purchases.line_product).all()
    columns = ["visitor", "customer", "action", "product", "term"]
    assert (np.sort(events[columns], order=columns) == np.sort(plain_events[columns], order=columns)).all()
    assert (events["action"] != plain_events["action"]).mean() > 0.1


def test_customers_view_and_search_what_their_taste_is_about(visits):
    shop, _, events = visits["all"]
    events = events[events["customer"] >= 0]
    taste = shop.customers.taste[events["customer"]]
    views = events["action"] == VIEW
    assert (events["product"][views] % DESIGNS_PER_LINE == taste[views]).mean() == pytest.approx(0.925, abs=0.02)
    words = [set(words) for words in TASTES.values()]
    searches = [(SEARCH_TERMS[e["term"]].split()[0], t) for e, t in zip(events, taste, strict=True) if e["action"] == SEARCH]
    of_taste = Counter(t == own for word, own in searches for t in range(len(words)) if word in words[t])
    assert of_taste[True] / of_taste.total() == pytest.approx(0.925, abs=0.02)
    assert of_taste.total() / len(searches) == pytest.approx(0.66, abs=0.03)  # the others are by a noun alone, or odd


def test_the_rhythms_are_told_by_what_follows_a_view(visits):
    shop, _, events = visits["all"]
    follows = {name: Counter() for name in RHYTHM_NAMES}
    for first, second in pairwise(events):
        if first["action"] == VIEW and first["visitor"] == second["visitor"] and first["customer"] >= 0:
            follows[RHYTHM_NAMES[shop.customers.rhythm[first["customer"]]]][int(second["action"])] += 1
    share = {name: {action: n / counts.total() for action, n in counts.items()} for name, counts in follows.items()}
    assert share["comparing"][ADD] < 0.75 * min(share["direct"][ADD], share["browsing"][ADD])
    assert share["comparing"][SEARCH] < 0.35 * min(share["direct"][SEARCH], share["browsing"][SEARCH])


def test_views_are_ranked_by_rhythm_within_their_session():
    rhythm, views = np.array([DIRECT, COMPARING, BROWSING]), np.array([4, 4, 4])
    category = np.array([7, 3, 7, 3] * 3)
    ranks = rank_views(rhythm, views, np.array([1, 1, 1]), category).reshape(3, 4)
    assert ranks.tolist() == [[0, 2, 1, 3], [0, 1, 2, 3], [3, 0, 1, 2]]
    ranks = rank_views(np.array([COMPARING]), np.array([4]), np.array([0]), np.array([7, 7, 3, 3]))
    assert ranks.tolist() == [0, 2, 1, 3]


def test_the_designs_of_a_line_share_brand_and_price_and_no_two_products_have_one_name():
    products = draw_products(3)
    rows = [line.split(",") for line in list_products(products, DAY)]
    assert len({title for _, title, *_ in rows}) == len(rows) == N_PRODUCTS == len(CATEGORIES) * PRODUCTS_PER_CATEGORY
    lines = [rows[n : n + DESIGNS_PER_LINE] for n in range(0, len(rows), DESIGNS_PER_LINE)]
    assert all(len({(brand, dept) for _, _, brand, dept, *_ in line}) == 1 for line in lines)
    assert (products.prices.reshape(-1, DESIGNS_PER_LINE).std(axis=1) == 0).all()
    assert 0 < 1 - products.has_price.mean() < 3 * NO_PRICE_SHARE


def test_the_truth_names_each_taste_and_rhythm_or_none(tmp_path):
    for plants in (Plants(), Plants(tastes=False, rhythms=False)):
        write_shop(tmp_path / "shop", customers=300, days=2, seed=3, last_day=DAY, plants=plants)
        header, *rows = (tmp_path / "shop/truth/customers.csv").read_text().splitlines()
        assert header == "customer_id,type,taste,rhythm"
        planted = [tuple(row.split(",")[2:]) for row in rows]
        assert {taste for taste, _ in planted} == (set(TASTES) if plants.tastes else {""})
        assert {rhythm for _, rhythm in planted} == (set(RHYTHM_NAMES) if plants.rhythms else {""})
