"""The gate on customers made for each outcome, whose type each representation shows more or less sharply."""

import json
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pytest

from jobs import catalogue
from jobs.encoded import customers as encoded
from jobs.segments import _judge, candidates, definitions
from jobs.storage import models
from jobs.storage.table import Table
from tests.jobs import planted
from tests.jobs.planted import DAY

TYPES, NOISES, N = 4, 4, 400
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


class Showing:
    """An encoder whose outputs show the type so sharply."""

    def __init__(self, outputs, sharpness):
        self.outputs, self.sharpness = outputs, sharpness

    def run(self, matrix, attributes):
        return tuple(np.eye(TYPES)[matrix[:, 0].astype(int)] * self.sharpness[name] + matrix[:, 1:] for name in self.outputs)


@pytest.fixture
def gate(lake, monkeypatch):
    """Runs the gate for a model of this sharpness, made on a day; gives the rows and who is champion then."""
    settings = planted.settings(lake, representation="best", min_stability=0.0)
    matrix = np.column_stack([np.arange(N) % TYPES, np.random.default_rng(1).normal(size=(N, NOISES))])
    sharpness = {}
    ids = [f"c{number}" for number in range(N)]
    rows = [
        (id_, day, True, None, 1, 1, Decimal(1), 400, row.tolist())
        for day in (BEFORE, DAY, LATER - timedelta(days=30), LATER)
        for id_, row in zip(ids, matrix, strict=True)
    ]
    lake.replace(FEATURES, lake.spark.createDataFrame(rows, FEATURES.schema))
    # The higher the type, the more a customer buys; the first type never comes again.
    bought = [
        (id_, DAY, DAY, date(9999, 12, 31), Decimal(10 * (number % TYPES)), number % TYPES, 1)
        for number, id_ in enumerate(ids)
        if number % TYPES
    ]
    lake.replace(CUSTOMER_DAYS, lake.spark.createDataFrame(bought, CUSTOMER_DAYS.schema))
    monkeypatch.setattr(_judge, "load_encoder", lambda root, version, outputs, file="": Showing(outputs, sharpness[version]))

    def run(version, day, vector, components, inputs, **meta):
        sharpness[version] = {"vector": vector, "components": components, "inputs": inputs}
        backtest = {"day": str(day - timedelta(days=30)), "features": NAMES}
        meta = {"features": NAMES, "attributes": {}, "backtest": backtest} | meta
        models.save(settings.models, version, lambda folder: (folder / "meta.json").write_text(json.dumps(meta)))
        models.promote(settings.models, version, day)
        vectors = Showing(["vector"], sharpness[version]).run(matrix, None)[0].tolist()
        of_day = [(id_, day, version, one, 0.1, True, 0.4, "learned") for id_, one in zip(ids, vectors, strict=True)]
        lake.replace_days(encoded.TABLE, lake.spark.createDataFrame(of_day, encoded.SCHEMA), [day])
        candidates.run(lake, settings, day)
        found = lake.read_small_table(candidates.TABLE)
        champion = models.champion(settings.models, day)
        if champion["version"] == version and champion["representation"] == "learned":
            definitions.run(lake, settings, day)
        return [row for row in found if row["model_version"] == version], champion

    run.lake, run.settings = lake, settings
    return run


def chosen(rows):
    return [(row["representation"], row["k"]) for row in rows if row["chosen"]]


def test_what_was_learned_is_published_where_it_shows_the_types_best(gate):
    rows, champion = gate("v1", DAY, SHARP, DULL, DULL)

    assert chosen(rows) == [("learned", 4)]
    assert champion == {"version": "v1", "since": str(DAY), "representation": "learned"}
    by_name = {row["representation"]: row for row in rows if row["k"] == 4 and row["method"] == "kmeans"}
    assert [by_name[name]["refused_by"] for name in ("pca", "features")] == ["gate: learned is published"] * 2
    assert by_name["learned"]["stability"] > by_name["pca"]["stability"]
    assert by_name["learned"]["separation_low"] > by_name["pca"]["separation_high"]
    assert by_name["learned"]["separation"] > 0.8
    assert {row["decision"].split(":")[0] for row in rows} == {"learned"}
    assert not encoded.is_stale(gate.lake, gate.settings, DAY)


@pytest.mark.parametrize(("name", "sharpness"), [("pca", (DULL, SHARP, DULL)), ("features", (DULL, DULL, SHARP))])
def test_else_the_better_of_the_plain_ones_is_published_and_the_day_is_encoded_anew(gate, name, sharpness):
    rows, champion = gate("v1", DAY, *sharpness)

    assert chosen(rows) == [(name, 4)]
    assert champion["representation"] == name
    assert encoded.is_stale(gate.lake, gate.settings, DAY)
    assert [row["refused_by"] for row in rows if row["representation"] == "learned" and row["common_davies_bouldin"]] == [
        f"gate: {name} is published"
    ]


def test_a_model_none_of_whose_representations_is_better_than_what_is_live_leaves_that_champion(gate):
    gate("v1", DAY, SHARP, DULL, DULL)
    rows, champion = gate("v2", LATER, DULL, DULL, DULL)

    assert chosen(rows) == []
    assert champion == {"version": "v1", "since": str(LATER), "representation": "learned"}
    assert encoded.is_stale(gate.lake, gate.settings, LATER)
    assert {row["decision"].split(":")[0] for row in rows} == {"live"}
    (live,) = [row for row in rows if row["representation"] == "live"]
    assert (live["k"], live["stability"]) == (4, 1.0)

    candidates.run(gate.lake, gate.settings, LATER)
    models.promote(gate.settings.models, "v2", LATER)  # as a training of the same inputs does
    candidates.run(gate.lake, gate.settings, LATER)
    assert models.champion(gate.settings.models, LATER)["version"] == "v1"


def test_what_is_live_and_cannot_encode_the_customers_of_today_cannot_stay(gate, capsys):
    gate("v1", DAY, SHARP, DULL, DULL, features=NAMES)
    told = models.meta(gate.settings.models, "v1") | {"features": NAMES[:-1]}
    models.save(gate.settings.models, "v1", lambda folder: (folder / "meta.json").write_text(json.dumps(told)))
    rows, champion = gate("v2", LATER, DULL, DULL, DULL)

    assert chosen(rows)[0][0] in ("pca", "features")
    assert champion["version"] == "v2"
    assert "v1, which is live, cannot stay: models: v1 was trained on other features" in capsys.readouterr().out


def test_without_a_backtest_the_separation_wins_nothing_and_the_decision_says_so(gate):
    rows, _ = gate("v1", DAY, SHARP, DULL, DULL, backtest={"day": str(BEFORE), "left_out": "train: no rows"})

    assert chosen(rows) == [("features", 4)]  # stability alone is not enough
    assert all(row["separation"] is None for row in rows)
    assert rows[0]["decision"].endswith("; separation is not known: train: no rows")
