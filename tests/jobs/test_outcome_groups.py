from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from jobs import event_sequences
from jobs.config.outcomes import Outcome
from jobs.input_groups import INTERESTS, SEQUENCES, GroupVectors
from jobs.outcome_cases import LABELS, fit_reductions
from jobs.outcome_groups import (
    MAX_COMPONENTS,
    MIN_CUSTOMERS,
    Reduction,
    SequenceModel,
    are_sequences_encoded,
    find_stale_groups,
    list_group_rows,
    read_groups,
    select_groups,
)
from jobs.storage.lake import Lake
from jobs.storage.rows import read_rows

DAY = date(2024, 6, 1)
EARLIER = DAY - timedelta(days=90)


def make_vectors(n: int, dimensions: int = 24, model: str = "m") -> GroupVectors:
    """Vectors that differ most in their first dimension; every tenth customer has none."""
    matrix = np.random.default_rng(1).normal(size=(n, dimensions)).astype(np.float32)
    matrix[:, 0] *= 10
    matrix[::10] = np.nan
    return GroupVectors("text", model, matrix)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(None, str(tmp_path / "lake"))


def write_interests(lake: Lake, day: date, vectors: GroupVectors, ids: list[str]) -> None:
    rows = [
        {"customer_id": id_, "day": day, "input_group": vectors.group, "model": vectors.model, "vector": vector}
        for id_, vector in zip(ids, vectors.matrix.tolist(), strict=True)
        if not np.isnan(vector[0])
    ]
    lake.replace_rows(INTERESTS, pa.Table.from_pylist(rows, INTERESTS.arrow_schema), [day])


def test_a_group_becomes_few_numbers_and_a_flag():
    vectors = make_vectors(500)
    reduction = Reduction.fit(vectors)
    columns = reduction.apply(vectors, 500)
    assert columns.shape == (500, MAX_COMPONENTS + 1)
    assert abs(np.corrcoef(columns[:, 0], np.nan_to_num(vectors.matrix[:, 0]))[0, 1]) > 0.99
    assert columns[:, :-1].mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert not columns[::10].any()  # who has no vector is the mean customer, and the last column says so
    assert columns[:, -1].sum() == 450
    assert reduction.names[0] == "text component 1"
    assert reduction.names[-1] == "has text"
    again = Reduction.from_record(reduction.to_record())
    assert np.array_equal(again.apply(vectors, 500), columns)


def test_a_customer_has_the_same_numbers_whoever_is_reduced_beside_them():
    vectors = make_vectors(500)
    reduction = Reduction.fit(vectors)
    alone = GroupVectors("text", "m", vectors.matrix[123:124])
    assert np.array_equal(reduction.apply(alone, 1)[0], reduction.apply(vectors, 500)[123])


def test_vectors_of_another_model_are_none():
    reduction = Reduction.fit(make_vectors(500))
    assert not reduction.apply(make_vectors(20, model="n"), 20).any()
    assert not reduction.apply(None, 20).any()


def test_there_are_no_components_of_few_customers_or_of_customers_who_are_all_alike():
    few = make_vectors(MIN_CUSTOMERS)
    assert Reduction.fit(few) is None
    alike = GroupVectors("text", "m", np.ones((500, 3), np.float32))
    assert Reduction.fit(alike) is None


def test_a_reduction_is_fitted_on_customers_who_do_not_test(lake):
    ids = [f"c{number}" for number in range(1000)]
    outcome = Outcome("churn", "no_order", 90, ordered_within_days=90)
    labels = [{"customer_id": id_, "day": EARLIER, "outcome": "churn", "label": True} for id_ in ids]
    lake.replace_rows(LABELS, pa.Table.from_pylist(labels, LABELS.arrow_schema))
    vectors = make_vectors(1000)
    write_interests(lake, EARLIER, vectors, ids)
    (reduction,) = fit_reductions(lake.root, [outcome], DAY, None)
    assert (reduction.group, reduction.model) == ("text", "m")
    mean = np.nanmean(vectors.matrix, axis=0)
    assert not np.allclose(reduction.mean, mean, atol=1e-4)  # six tenths of the customers
    assert np.allclose(reduction.mean, mean, atol=1)
    assert fit_reductions(lake.root, [outcome], EARLIER, None) == ()  # nothing is known so early


def write_events(lake: Lake, events: list[tuple[str, date]]) -> None:
    """Write one event for each customer and day."""
    event = {"event_at": None, "event_type": "view", "product_id": None, "category": None, "channel": None, "amount": None}
    rows = [
        {"customer_id": id_, "day": day, "identified_on": day, "known_until": date.max, "n_events": 1, "last_event_at": None,
         "fingerprint": 1, "events": [event | {"event_at": datetime(day.year, day.month, day.day, tzinfo=UTC)}]}
        for id_, day in events
    ]  # fmt: skip
    lake.replace_rows(event_sequences.TABLE, pa.Table.from_pylist(rows, event_sequences.TABLE.arrow_schema))


def test_events_are_encoded_as_of_the_day_alone_or_in_buckets_where_no_vectors_of_the_encoder_are_stored(lake, monkeypatch):
    def count_events(_content, sequences):
        return np.where(sequences.lengths > 0, sequences.lengths, np.nan).astype(np.float32)[:, None]

    monkeypatch.setattr(event_sequences, "encode_sequences", count_events)
    tomorrow = DAY + timedelta(days=1)
    write_events(lake, [("a", EARLIER), ("a", DAY), ("a-old", EARLIER), ("b", DAY), ("b", tomorrow), ("c", tomorrow)])
    sequences = SequenceModel("v2", b"", 10, {"a-old": "a"})
    reduction = Reduction("sequence", "v2", np.zeros(1, np.float32), np.ones((1, 1), np.float32))
    ids = pa.array(["c", "b", "a"])
    rows = list_group_rows(lake.root, DAY, [reduction], sequences)["sequence"]
    assert rows.key(read_rows(lake.root, rows)).to_pylist().count("a") == 3  # an account that is part of another one is that one
    vectors = select_groups({"sequence": read_rows(lake.root, rows)}, [reduction], sequences, ids)["sequence"]
    assert vectors.model == "v2"
    np.testing.assert_array_equal(vectors.matrix[:, 0], [np.nan, 1, 3])
    alone = read_groups(lake.root, EARLIER, ids, sequences)["sequence"]
    np.testing.assert_array_equal(alone.matrix[:, 0], [np.nan, np.nan, 1])  # no records of customers say what a-old is
    assert not are_sequences_encoded(lake.root, DAY, "v2")
    stored = {"customer_id": "a", "day": DAY, "model_version": "v2", "vector": [5.0]}
    lake.replace_rows(SEQUENCES, pa.Table.from_pylist([stored], SEQUENCES.arrow_schema), [DAY])
    assert are_sequences_encoded(lake.root, DAY, "v2")
    assert not are_sequences_encoded(lake.root, DAY, "v1")
    rows = list_group_rows(lake.root, DAY, [reduction], None)["sequence"]
    vectors = select_groups({"sequence": read_rows(lake.root, rows)}, [reduction], None, ids)["sequence"]
    np.testing.assert_array_equal(vectors.matrix[:, 0], [np.nan, np.nan, 5])


def test_a_group_of_another_model_than_its_reduction_is_named(lake):
    ids = [f"c{number}" for number in range(100)]
    reduction = Reduction.fit(make_vectors(100))
    assert find_stale_groups(lake.root, DAY, [reduction]) == {"text": None}
    write_interests(lake, DAY, make_vectors(100, model="n"), ids)
    assert find_stale_groups(lake.root, DAY, [reduction]) == {"text": "n"}
    write_interests(lake, DAY, make_vectors(100), ids)
    assert find_stale_groups(lake.root, DAY, [reduction]) == {}
    assert read_groups(lake.root, DAY, pa.array(["c1", "unknown"]), None)["text"].matrix.shape == (2, 24)
