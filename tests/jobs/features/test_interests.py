"""features.interests: weighted means of the vectors of a customer's items, as of a day."""

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest

from jobs.config.settings import Text
from jobs.features import item_days
from jobs.features._accounts import Accounts
from jobs.features._item_vectors import ItemVectors
from jobs.features.interests import summarize_interests
from tests.jobs.features.logs import to_arrow

DAY = date(2024, 3, 31)
SETTINGS = Text(windows=(7, 30), half_life_days=10.0)
NO_CUSTOMERS = pl.DataFrame(schema={"customer_id": pl.String, "place": pl.Int64})
PLACES = pl.DataFrame({"is_search": [False, False, True], "item": ["mug", "pen", "mug"], "place": [0, 1, 0]})
TEXTS = ItemVectors("text", "m-1", PLACES, np.eye(2, dtype=np.float32), NO_CUSTOMERS, np.zeros((0, 0), np.float32))


def item(customer, day, name="mug", kind="view", n=1, **more):
    row = {"customer_id": customer, "day": day, "identified_on": day, "known_until": "9999-12-31", "kind": kind, "item": name}
    return row | {"n": n} | more


def summarize(rows, day=DAY, groups=(TEXTS,), accounts=None, settings=SETTINGS):
    table = summarize_interests({"items": to_arrow(item_days.TABLE, rows)}, day, groups, settings, accounts)["interests"]
    return {row["customer_id"]: row for row in table.to_pylist()}


def test_an_item_counts_by_its_kind_its_number_and_half_as_much_after_the_half_life():
    rows = [item("a", "2024-03-30", n=2), item("a", "2024-03-20", "pen", "order"), item("a", "2024-03-30", kind="search")]
    vector = summarize(rows)["a"]["vector"]
    mug, pen = 2 * 1.0 + 2.0, 5.0 * 0.5
    long = np.array([mug, pen]) / (mug + pen)
    expected = [1, 0, *long, 1 - long @ long, 1 - long[0] / np.linalg.norm(long)]
    assert vector == pytest.approx(expected, abs=1e-6)


def test_items_that_are_not_known_by_the_day_or_have_no_vector_do_not_count():
    rows = [
        item("a", "2024-03-30"), item("a", "2024-04-01", "pen"), item("a", "2024-03-30", "pen", identified_on="2024-04-01"),
        item("a", "2024-03-20", "pen", known_until="2024-03-31"), item("a", "2024-03-30", "unnamed"),
        item("b", "2024-03-30", "unnamed"),
    ]  # fmt: skip
    assert {name: row["n_items"] for name, row in summarize(rows).items()} == {"a": 1}


def test_a_vector_stays_while_a_customer_does_nothing_until_the_longest_window_is_over():
    rows = [item("a", "2024-03-01"), item("a", "2024-02-25", "pen"), item("b", "2024-03-29", "pen")]
    earlier, later = summarize(rows, date(2024, 3, 10))["a"], summarize(rows, date(2024, 3, 30))["a"]
    assert earlier["vector"] == later["vector"]
    assert set(summarize(rows)) == {"b"}


def test_a_row_does_not_depend_on_the_other_rows_or_their_order():
    generator = np.random.default_rng(3)
    matrix = generator.normal(size=(50, 8)).astype(np.float32)
    places = pl.DataFrame({"is_search": [False] * 50, "item": [f"p{n:02}" for n in range(50)], "place": range(50)})
    group = replace(TEXTS, matrix=matrix, places=places)
    rows = [
        item(f"c{generator.integers(9)}", f"2024-03-{generator.integers(1, 31):02}", f"p{generator.integers(50):02}", n=n % 4 + 1)
        for n in range(600)
    ]  # fmt: skip
    whole = summarize(rows, groups=[group])
    alone = summarize([row for row in reversed(rows) if row["customer_id"] == "c3"], groups=[group])
    assert alone["c3"] == whole["c3"]


def test_what_an_account_did_that_is_part_of_another_one_counts_as_that_ones():
    rows = [item("old", "2024-03-30"), item("new", "2024-03-30", "pen")]
    merged = summarize(rows, accounts=Accounts({"old": "new"}))
    assert {name: row["n_items"] for name, row in merged.items()} == {"new": 2}


def test_own_vectors_of_customers_come_before_the_means_of_their_products():
    own = replace(TEXTS, group="own_vectors", model="customer:faces product:photos", own=np.array([[7, 8, 9]], np.float32),
                  customers=pl.DataFrame({"customer_id": ["a"], "place": [0]}))  # fmt: skip
    rows = summarize([item("b", "2024-03-30", "pen")], groups=[own])
    assert rows["a"]["vector"] == [7, 8, 9, 0, 0, 0, 0, 0, 0]
    assert rows["b"]["vector"] == [0, 0, 0, 0, 1, 0, 1, 0, 0]
    assert (rows["a"]["n_items"], rows["a"]["last_item_day"]) == (0, None)
