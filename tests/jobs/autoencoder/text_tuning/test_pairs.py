"""Which product was opened after which search."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.autoencoder.text_tuning.pairs import SPLIT_TENTHS, build_pairs, find_split, pair_products, pair_searches, read_texts
from jobs.storage.delta import table_path

DAY = date(2026, 1, 31)


def write_events(lake: str, *events: tuple, **changes) -> None:
    """Write events (session, type, text), a second apart: the text is a search term or a product."""
    write_deltalake(table_path(lake, "clean.events"), build_events(*events, **changes), partition_by=["day"], mode="append")


def build_events(*events: tuple, day: date = DAY, is_bot: bool = False) -> pa.Table:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    columns = {
        "event_id": [str(n) for n in range(len(events))],
        "event_at": [start + timedelta(seconds=n) for n in range(len(events))],
        "session_id": [session for session, _, _ in events],
        "event_type": [kind for _, kind, _ in events],
        "search_term": pa.array([text if kind == "search" else None for _, kind, text in events], pa.string()),
        "product_id": pa.array([None if kind == "search" else text for _, kind, text in events], pa.string()),
        "is_bot": [is_bot] * len(events),
        "day": [day] * len(events),
    }
    return pa.table(columns)


def write_products(lake: str, *products: tuple[str, str, date]) -> None:
    ids, names, days = zip(*products, strict=True)
    write_deltalake(table_path(lake, "clean.products"), pa.table({"product_id": ids, "name": names, "day": days}))


def to_rows(pairs: pa.Table) -> list[tuple]:
    return sorted(zip(pairs["query"].to_pylist(), pairs["product_id"].to_pylist(), strict=True))


def test_the_click_of_a_search_is_the_first_product_opened_after_it_in_its_session():
    events = build_events(
        ("a", "view", "before"), ("a", "search", "mug"), ("b", "view", "elsewhere"), ("a", "view", "m1"),
        ("a", "add_to_cart", "m1"), ("a", "search", "pan"), ("a", "view", "p1"), ("a", "purchase", None),
    )  # fmt: skip
    assert to_rows(pair_searches(events)) == [("mug", "m1"), ("pan", "p1")]


def test_a_search_without_words_has_no_clicks():
    assert to_rows(pair_searches(build_events(("a", "search", "mug"), ("a", "search", None), ("a", "view", "m1")))) == []


def test_products_opened_one_after_the_other_are_pairs():
    events = build_events(
        ("a", "view", "m1"), ("a", "view", "m1"), ("a", "search", "x"), ("a", "add_to_cart", "m2"), ("b", "view", "p1")
    )
    assert to_rows(pair_products(events)) == [("m1", "m2")]


def test_without_events_there_are_no_pairs():
    assert pair_searches(build_events().cast(build_events(("a", "view", "m1")).schema)).num_rows == 0
    assert pair_products(build_events().cast(build_events(("a", "view", "m1")).schema)).num_rows == 0


def test_the_texts_are_those_of_people_up_to_the_day_with_the_names_as_known_on_it(tmp_path):
    lake = str(tmp_path)
    write_events(lake, ("a", "search", "big  mug"), ("a", "view", "m1"), ("a", "view", "nameless"))
    write_events(lake, ("b", "search", "robot"), ("b", "view", "m1"), is_bot=True)
    write_events(lake, ("c", "search", "tomorrow"), ("c", "view", "m1"), day=DAY + timedelta(days=1))
    write_events(lake, ("d", "search", "long ago"), ("d", "view", "m1"), day=DAY - timedelta(days=40))
    names = [("m1", "Old Mug", date(1970, 1, 1)), ("m1", "Mug", DAY), ("m1", "Later Mug", DAY + timedelta(days=1))]
    write_products(lake, *names)
    texts = read_texts(lake, DAY, history_days=40)
    assert texts.names.tolist() == ["Mug"]
    assert texts.terms.tolist() == ["big mug"]
    assert list(zip(texts.searches.queries, texts.searches.names, texts.searches.counts, strict=True)) == [("big mug", "Mug", 1)]
    assert read_texts(lake, DAY, history_days=41).terms.tolist() == ["big mug", "long ago"]


def test_every_query_is_in_one_split_whatever_else_there_is():
    pairs = build_pairs("search", {(f"term {n}", "name"): 1 for n in range(1000)})
    parts = {split: set(pairs.select(split).queries) for split in SPLIT_TENTHS}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 1000
    assert len(parts["train"]) == pytest.approx(600, abs=60)
    assert all(find_split(query) == split for split, queries in parts.items() for query in queries)
