"""Events in order as of a day, their codes, and which customers an account is part of."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from jobs import event_sequences
from jobs.event_sequences import Vocabulary, pad_codes, read_event_sequences, read_owners, read_summaries
from jobs.storage.commits import replace_rows
from tests.jobs.shop_sequences import DAY, to_row, write_rows

VOCABULARY = Vocabulary(["purchase", "view"], ["p1"], [], ["mail"], [2.0, 4.0])


def read_kinds(lake, day, ids, max_events=10):
    sequences = read_event_sequences(lake, day, pa.array(ids, pa.string()), max_events)
    kinds = sequences.texts["event_type"].to_pylist()
    return [kinds[first:last] for first, last in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)]


def test_the_last_events_known_by_the_day_are_read_in_the_order_of_time(tmp_path):
    lake = str(tmp_path)
    early, late = DAY - timedelta(days=5), DAY + timedelta(days=2)
    rows = [
        to_row("a", DAY, ["view", "login"]),
        to_row("a", early, ["search"]),
        to_row("b", early, ["view"], identified_on=late),
        to_row("c", late, ["view"]),
    ]
    write_rows(lake, rows)

    assert read_kinds(lake, DAY, ["b", "a", "nobody"]) == [[], ["search", "view", "login"], []]
    assert read_kinds(lake, DAY, ["a"], max_events=2) == [["view", "login"]]
    assert read_kinds(lake, late, ["b", "c"]) == [["view"], ["view"]]
    assert read_summaries(lake, DAY).select(["customer_id", "n_events"]).to_pylist() == [{"customer_id": "a", "n_events": 3}]


def test_an_account_that_is_part_of_another_one_gives_it_its_events(tmp_path):
    lake = str(tmp_path)
    write_rows(lake, [to_row("old", DAY - timedelta(days=1), ["search"]), to_row("new", DAY, ["view"])])
    merges = [("old", date(2026, 1, 3), "middle"), ("middle", date(2026, 1, 4), "new"), ("late", date(2026, 2, 4), "new")]
    records = pa.Table.from_pylist(
        [{"customer_id": account, "day": day, "merged_into": owner} for account, day, owner in merges],
        event_sequences.RECORDS.arrow_schema,
    )
    replace_rows(lake, event_sequences.RECORDS, records)

    assert read_owners(lake, DAY) == {"old": "new", "middle": "new"}
    assert read_kinds(lake, DAY, ["new"]) == [["search", "view"]]
    assert read_summaries(lake, DAY)["n_events"].to_pylist() == [2]


def test_events_become_codes_by_the_vocabulary_and_a_first_event_has_no_gap(tmp_path):
    lake = str(tmp_path)
    write_rows(lake, [to_row("a", DAY, ["view", "purchase", "login"])])  # products p1, p2, p3; amounts 0, 2, 4

    codes = VOCABULARY.encode(read_event_sequences(lake, DAY, pa.array(["a"]), 10))

    assert VOCABULARY.sizes == [4, 3, 2, 3, 4, 13, 3, 8, 8]
    assert codes.tolist() == [[3, 2, 0, 2, 1, 0, 0, 1, 0], [2, 1, 0, 2, 2, 3, 1, 1, 0], [1, 1, 0, 2, 3, 3, 1, 1, 0]]
    assert pad_codes(codes, np.array([1, 0]), np.array([1, 2]))[0].tolist() == [[2, 1, 0, 2, 2, 0, 0, 1, 0], [0] * 9]


def test_a_return_says_how_many_events_ago_the_customer_had_the_same():
    products = pa.array(["a", "b", "a", None, "a", "a"]).dictionary_encode()
    customers = np.array([1, 1, 1, 1, 1, 2])
    first, two_ago = 1, 3
    assert event_sequences._encode_returns(products, customers).tolist() == [first, first, two_ago, 0, two_ago, first]
