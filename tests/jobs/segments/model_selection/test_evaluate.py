"""The evaluation of a model, on customers of planted types that each representation shows more or less sharply."""

import json
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from jobs import catalogue, representations
from jobs.encoded import customers as encoded
from jobs.input_groups import INTERESTS
from jobs.segments import candidates, definitions
from jobs.storage import models
from jobs.storage.table import Table
from tests.jobs import planted
from tests.jobs.planted import DAY

TYPES, NOISES, N, TASTES = 4, 4, 400, 4
NAMES = list(catalogue.VECTOR[: 1 + NOISES])  # the first holds the type
BEFORE, LATER = DAY - timedelta(days=30), DAY + timedelta(days=7)
PROPERTIES = {"shoal.vector": json.dumps(NAMES), "shoal.attributes": "[]"}
FEATURES = replace(planted.FEATURES, properties=PROPERTIES)
CUSTOMER_DAYS = Table(
    "features.customer_days",
    "As much of it as the gate reads.",
    """customer_id STRING, day DATE, identified_on DATE, known_until DATE, net DECIMAL(18,4), orders BIGINT, events BIGINT""",
    partition="day",
)
DULL, SHARP = 1.5, 8.0


class PlantedEncoder:
    """An encoder whose outputs show the type with a given sharpness each."""

    def __init__(self, outputs, sharpness):
        self.outputs, self.sharpness = outputs, sharpness

    def run(self, matrix, attributes, groups=None):
        """The text vector, the taste, shows in `learned_text` and in the common space."""
        tastes = np.nan_to_num(groups["text"]) if groups else np.zeros((len(matrix), TASTES))
        parts = {
            "learned_text": np.hstack([matrix[:, 1:], tastes * self.sharpness.get("text", 0)]),
            "joint": np.hstack([self._show("inputs", matrix), tastes * 8.0]),
        }
        return tuple(parts[name] if name in parts else self._show(name, matrix) for name in self.outputs)

    def _show(self, name, matrix):
        return np.eye(TYPES)[matrix[:, 0].astype(int)] * self.sharpness[name] + matrix[:, 1:]


@pytest.fixture
def run_gate(lake, monkeypatch):
    """Return a function that evaluates a model of the given sharpness on a day; it returns the rows and the champion then."""
    settings = planted.settings(lake, representation="best", min_stability=0.0)
    matrix = np.column_stack([np.arange(N) % TYPES, np.random.default_rng(1).normal(size=(N, NOISES))])
    sharpness = {}
    ids = [f"c{number}" for number in range(N)]
    rows = [
        {"customer_id": id_, "day": day, "is_active": True, "vector": row.tolist()}
        for day in (BEFORE, DAY, LATER - timedelta(days=30), LATER)
        for id_, row in zip(ids, matrix, strict=True)
    ]
    lake.replace_rows(FEATURES, pa.Table.from_pylist(rows, FEATURES.arrow_schema))
    # Customers of a higher type buy more; those of the first type never come back.
    purchases = [
        (id_, DAY, DAY, date(9999, 12, 31), Decimal(10 * (number % TYPES)), number % TYPES, 1)
        for number, id_ in enumerate(ids)
        if number % TYPES
    ]
    purchases = [dict(zip(CUSTOMER_DAYS.columns, row, strict=True)) for row in purchases]
    lake.replace_rows(CUSTOMER_DAYS, pa.Table.from_pylist(purchases, CUSTOMER_DAYS.arrow_schema))
    monkeypatch.setattr(definitions, "_fit_in_spark", planted.fit_centres)
    monkeypatch.setattr(
        representations, "load_encoder", lambda root, version, outputs, file: PlantedEncoder(outputs, sharpness[version])
    )

    def run(version, day, learned, pca, raw_features, text=0.0, **meta):
        sharpness[version] = {"vector": learned, "components": pca, "inputs": raw_features, "text": text}
        backtest_meta = {"day": str(day - timedelta(days=30)), "features": NAMES}
        meta = {"features": NAMES, "attributes": {}, "backtest": backtest_meta} | meta
        models.save(settings.models, version, lambda folder: (folder / "meta.json").write_text(json.dumps(meta)))
        models.promote(settings.models, version, day)
        vectors = PlantedEncoder(["vector"], sharpness[version]).run(matrix, None)[0].tolist()
        of_day = [
            dict(zip(encoded.TABLE.columns, (id_, day, version, vector, 0.1, True, 0.4, "learned"), strict=True))
            for id_, vector in zip(ids, vectors, strict=True)
        ]
        planted.replace_days(lake, encoded.TABLE, of_day, [day])
        candidates.run(lake, settings, day)
        rows = lake.read_small_table(candidates.TABLE)
        champion = models.champion(settings.models, day)
        if champion["version"] == version and champion["representation"] == "learned":
            definitions.run(lake, settings, day)
        return [row for row in rows if row["model_version"] == version], champion

    def write_texts(model, days):
        """Write text vectors that show the type: of all customers but every tenth."""
        of_text = {"input_group": "text", "model": model}
        texts = [
            of_text | {"customer_id": id_, "day": day, "vector": np.eye(TASTES)[row % TYPES].tolist()}
            for day in days
            for row, id_ in enumerate(ids)
            if row % 10
        ]
        lake.replace_rows(INTERESTS, pa.Table.from_pylist(texts, INTERESTS.arrow_schema))

    run.lake, run.settings, run.write_texts = lake, settings, write_texts
    return run


def list_chosen(rows):
    return [(row["representation"], row["k"]) for row in rows if row["chosen"]]


def test_the_learned_embedding_is_published_where_it_shows_the_types_best(run_gate):
    rows, champion = run_gate("v1", DAY, SHARP, DULL, DULL)

    assert list_chosen(rows) == [("learned", 4)]
    assert champion == {"version": "v1", "since": str(DAY), "representation": "learned"}
    by_name = {row["representation"]: row for row in rows if row["k"] == 4 and row["method"] == "kmeans"}
    assert [by_name[name]["refused_by"] for name in ("pca", "features")] == ["gate: learned is published"] * 2
    assert by_name["learned"]["stability"] > by_name["pca"]["stability"]
    assert by_name["learned"]["separation_low"] > by_name["pca"]["separation_high"]
    assert by_name["learned"]["separation"] > 0.8
    assert {row["decision"].split(":")[0] for row in rows} == {"learned"}
    assert not encoded.is_stale(run_gate.lake, run_gate.settings, DAY)


@pytest.mark.parametrize(("name", "sharpness"), [("pca", (DULL, SHARP, DULL)), ("features", (DULL, DULL, SHARP))])
def test_otherwise_the_better_baseline_is_published_and_the_day_must_be_encoded_again(run_gate, name, sharpness):
    rows, champion = run_gate("v1", DAY, *sharpness)

    assert list_chosen(rows) == [(name, 4)]
    assert champion["representation"] == name
    assert encoded.is_stale(run_gate.lake, run_gate.settings, DAY)
    assert [row["refused_by"] for row in rows if row["representation"] == "learned" and row["common_davies_bouldin"]] == [
        f"gate: {name} is published"
    ]


def test_other_methods_on_what_is_published_are_added_for_comparison_once(run_gate):
    rows, _ = run_gate("v1", DAY, DULL, DULL, SHARP)
    assert {row["method"] for row in rows} == {"kmeans"}

    candidates.add_alternatives(run_gate.lake, run_gate.settings, DAY)
    with_others = run_gate.lake.read_small_table(candidates.TABLE)
    candidates.add_alternatives(run_gate.lake, run_gate.settings, DAY)

    others = [row for row in with_others if row["method"] != "kmeans"]
    assert {row["method"] for row in others} == {"bisecting", "gaussian_mixture", "ward", "hdbscan"}
    facts = {(row["representation"], row["decision"], row["chosen"]) for row in others}
    assert facts == {("features", rows[0]["decision"], False)}
    assert [row for row in with_others if row["method"] == "kmeans"] == rows
    assert run_gate.lake.read_small_table(candidates.TABLE) == with_others


def test_the_live_model_stays_champion_where_no_representation_of_the_new_model_beats_it(run_gate):
    run_gate("v1", DAY, SHARP, DULL, DULL)
    rows, champion = run_gate("v2", LATER, DULL, DULL, DULL)

    assert list_chosen(rows) == []
    assert champion == {"version": "v1", "since": str(LATER), "representation": "learned"}
    assert encoded.is_stale(run_gate.lake, run_gate.settings, LATER)
    assert {row["decision"].split(":")[0] for row in rows} == {"live"}
    (live,) = [row for row in rows if row["representation"] == "live"]
    assert (live["k"], live["stability"]) == (4, 1.0)

    candidates.run(run_gate.lake, run_gate.settings, LATER)
    models.promote(run_gate.settings.models, "v2", LATER)  # as another training on the same inputs does
    candidates.run(run_gate.lake, run_gate.settings, LATER)
    assert models.champion(run_gate.settings.models, LATER)["version"] == "v1"


def test_a_live_model_that_cannot_encode_the_customers_of_today_is_not_kept(run_gate, capsys):
    run_gate("v1", DAY, SHARP, DULL, DULL, features=NAMES)
    meta = models.meta(run_gate.settings.models, "v1") | {"features": NAMES[:-1]}
    models.save(run_gate.settings.models, "v1", lambda folder: (folder / "meta.json").write_text(json.dumps(meta)))
    rows, champion = run_gate("v2", LATER, DULL, DULL, DULL)

    assert list_chosen(rows)[0][0] in ("pca", "features")
    assert champion["version"] == "v2"
    assert "the live model v1 cannot be kept: models: v1 was trained on other features" in capsys.readouterr().out


def test_without_a_backtest_the_variance_explained_does_not_count_and_the_decision_says_so(run_gate):
    rows, _ = run_gate("v1", DAY, SHARP, DULL, DULL, backtest={"day": str(BEFORE), "left_out": "train: no rows"})

    assert list_chosen(rows) == [("features", 4)]  # stability alone is not enough
    assert all(row["separation"] is None for row in rows)
    assert rows[0]["decision"].endswith("; variance explained is not known: train: no rows")


TEXT = {"text": {"model": "words@1", "dimensions": TASTES, "components": TASTES}}


def with_texts(day, is_in_backtest=True):
    groups = {"groups": TEXT} if is_in_backtest else {}
    return {"groups": TEXT, "backtest": {"day": str(day - timedelta(days=30)), "features": NAMES} | groups}


def test_a_representation_with_text_is_compared_and_published_where_only_text_shows_the_types(run_gate):
    run_gate.write_texts("words@1", [BEFORE, DAY])
    rows, champion = run_gate("v1", DAY, DULL, DULL, DULL, text=SHARP, **with_texts(DAY))

    assert champion["representation"] == "learned_text"
    assert {row["representation"] for row in rows} == {"learned", "learned_text", "pca", "features"}
    assert rows[0]["decision"].startswith("learned_text: The learned embedding with text beats PCA")
    assert len([row for row in rows if row["representation"] == "learned_text"]) > 1  # every k of what is published
    assert encoded.is_stale(run_gate.lake, run_gate.settings, DAY)


def test_without_a_backtest_of_the_text_its_variance_explained_does_not_count_and_the_decision_says_so(run_gate):
    run_gate.write_texts("words@1", [DAY])
    rows, _ = run_gate("v1", DAY, DULL, DULL, DULL, text=SHARP, **with_texts(DAY, is_in_backtest=False))

    of_text = [row for row in rows if row["representation"] == "learned_text" and row["common_davies_bouldin"]]
    assert [row["separation"] for row in of_text] == [None]
    expected = f"variance explained is not known of all: too few customers of {BEFORE} have what learned_text needs"
    assert rows[0]["decision"].endswith(expected)


def test_text_of_another_model_leaves_the_representation_out_and_the_decision_says_why(run_gate):
    run_gate.write_texts("words@2", [BEFORE, DAY])
    rows, champion = run_gate("v1", DAY, DULL, DULL, SHARP, text=SHARP, **with_texts(DAY))

    assert champion["representation"] == "features"
    assert {row["representation"] for row in rows} == {"learned", "pca", "features"}
    assert "the text vectors of 2024-03-01 are of words@2, the network was trained on those of words@1" in rows[0]["decision"]


def test_a_live_model_with_text_is_evaluated_and_cannot_be_kept_where_the_text_is_of_another_model(run_gate, capsys):
    run_gate.write_texts("words@1", [BEFORE, DAY, LATER - timedelta(days=30), LATER])
    run_gate("v1", DAY, DULL, DULL, DULL, text=SHARP, **with_texts(DAY))
    centres = [[0.0] * NOISES + (np.eye(TASTES)[number] * SHARP).tolist() for number in range(TASTES)]
    segments = [
        {"segment_id": number, "model_version": "v1", "name": str(number), "center": centre, "fitted_on": DAY, "born_on": DAY}
        for number, centre in enumerate(centres, start=1)
    ]
    run_gate.lake.replace_rows(definitions.TABLE, pa.Table.from_pylist(segments, definitions.TABLE.arrow_schema))
    rows, champion = run_gate("v2", LATER, DULL, DULL, DULL)
    assert champion == {"version": "v1", "since": str(LATER), "representation": "learned_text"}
    assert {row["decision"].split(":")[0] for row in rows} == {"live"}

    run_gate.write_texts("words@2", [LATER - timedelta(days=30), LATER])
    models.promote(run_gate.settings.models, "v1", DAY, "learned_text")
    _, champion = run_gate("v3", LATER + timedelta(days=0), DULL, DULL, DULL)
    assert champion["version"] == "v3"
    assert "the live model v1 cannot be kept: models: the text vectors" in capsys.readouterr().out
