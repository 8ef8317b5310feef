"""scores.customer_outcomes: how a model is chosen, and what its rows say."""

import json
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from jobs.config.outcomes import Outcome
from jobs.config.settings import load_settings
from jobs.engine.lazy_session import LazySession
from jobs.input_groups import INTERESTS, GroupVectors
from jobs.outcome_cases import MIN_CASES, Cases, Inputs, find_separators, split_cases
from jobs.outcome_groups import Reduction
from jobs.scores import _outcome_training, customer_outcomes
from jobs.scores._classifiers import Calibration, Linear
from jobs.scores._outcome_training import OutcomeModel
from jobs.storage import models
from jobs.storage.lake import Lake

DAY = date(2024, 6, 1)
CHURN = Outcome("churn", "no_order", 90, ordered_within_days=90)
FEATURES = ("recency_days", "order_recency_days", "orders_90d")


class PlainEncoder:
    """Gives the features as inputs, 0 for a missing one, and their sum as the learned vector."""

    def run(self, matrix, attributes):
        inputs = np.nan_to_num(matrix)
        return inputs, inputs.sum(axis=1, keepdims=True)


INPUTS = Inputs("v1", PlainEncoder(), FEATURES, (), FEATURES, latent=1)


def make_cases(n: int, seed: int, informative: bool = True) -> tuple[Cases, np.ndarray]:
    """Cases in which customers with few orders churn, or anybody does; and the tenths that they are in."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 3)).astype(np.float32)
    matrix = np.hstack([features, features.sum(axis=1, keepdims=True), random.random((n, 2))]).astype(np.float32)
    odds = -2 * features[:, 2] if informative else np.zeros(n)
    return Cases(matrix, (random.random(n) < 1 / (1 + np.exp(-odds))).astype(np.int8)), np.arange(n) % 10


def test_contestants_are_fitted_on_other_customers_and_earlier_days_than_they_are_tested_on():
    days = [DAY - timedelta(days=90 * n) for n in (3, 2, 1)]
    cases = {day: make_cases(500, seed) for seed, day in enumerate(days)}
    parts = split_cases(cases)
    assert parts.days == {"fit": [str(days[0])], "calibration": [str(days[1])], "test": [str(days[2])]}
    assert [len(part.labels) for part in (parts.fit, parts.calibration, parts.test)] == [300, 200, 200]
    assert len(parts.last_fit.labels) == 900
    two = split_cases({day: cases[day] for day in days[1:]})
    assert two.days == {"fit": [str(days[1])], "calibration": [str(days[1])], "test": [str(days[2])]}
    single = split_cases({days[2]: cases[days[2]]})
    assert [len(part.labels) for part in (single.fit, single.calibration, single.test)] == [300, 100, 100]
    rows = [row.tobytes() for part in (single.fit, single.calibration, single.test) for row in part.matrix]
    assert len(set(rows)) == 500


def test_too_few_cases_are_said_in_words():
    few, tenths = make_cases(500, 1)
    labels = np.zeros(500, np.int8)
    labels[: MIN_CASES - 1] = 1
    reason = split_cases({DAY: (replace(few, labels=labels), tenths)})
    assert reason == "at most 39 customers of an earlier day have the rarer outcome, fewer than 40"
    assert split_cases({}).startswith("at most 0 customers")


def test_an_input_that_knows_the_outcome_is_found():
    cases, _ = make_cases(500, 1)
    cases.matrix[:, 1] = -5.0 * cases.labels
    assert find_separators(cases) == (1,)


@pytest.fixture
def choose(spark, tmp_path, monkeypatch):
    """A function that returns the published model and its facts for cases of one day."""

    monkeypatch.setattr(_outcome_training, "BY_SPARK", ("logistic_regression", "random_forest"))

    def choose(cases: tuple[Cases, np.ndarray]):
        lake = Lake(LazySession("test", lambda *_: spark), str(tmp_path / "lake"))
        return _outcome_training._choose_model(lake, load_settings({}), INPUTS, CHURN, split_cases({DAY: cases}), {})

    return choose


def test_a_learned_model_is_published_where_it_beats_the_plain_rules(choose):
    cases, tenths = make_cases(1500, 3)
    cases.matrix[:, 0] = cases.labels  # leaks
    model, facts = choose((cases, tenths))
    assert model.method == facts["method"] == "logistic_regression"  # nothing more complicated is better
    assert facts["refused"] == ["recency_days"]
    assert set(facts["figures"]) >= {"prevalence", "recency", "random_forest"}
    assert any(name.endswith("_with_vector") for name in facts["figures"])
    assert facts["figures"]["logistic_regression"]["log_loss"][2] < facts["figures"]["recency"]["log_loss"][1]
    assert facts["top_features"][0]["feature"] == "orders_90d"
    assert facts["top_features"][0]["raises"] is False
    again = OutcomeModel.from_record(json.loads(json.dumps(model.to_record())))
    assert np.array_equal(again.score(cases.matrix), model.score(cases.matrix))
    cases.matrix[:, 0] = 1 - cases.matrix[:, 0]
    assert np.array_equal(again.score(cases.matrix), model.score(cases.matrix))  # a refused input is not read


def test_everyone_has_the_same_probability_where_nothing_foretells_the_outcome(choose):
    model, facts = choose(make_cases(1500, 4, informative=False))
    assert model.method == "prevalence"
    assert facts["top_features"] == []


def test_rows_say_how_likely_it_is_in_which_tenth_and_why():
    n = 40
    table = INPUTS.table
    customers = [
        {"customer_id": f"c{number:02}", "day": DAY, "vector": [1.0, float(number), float(number % 4)],
         "last_seen_day": DAY, "last_order_day": DAY - timedelta(days=0 if number else 90)}
        for number in range(n)
    ]  # fmt: skip
    rows = pa.Table.from_pylist(
        customers, pa.schema([table.arrow_schema.field(name) for name in INPUTS.customers_of(DAY).columns])
    )
    model = OutcomeModel(
        "churn", "logistic_regression", Linear(np.array([0, 1.0, 0.01]), np.array([1, 20.0, 2])), Calibration(0.2, -4)
    )
    edges = {"churn": np.quantile(np.arange(1, n), np.arange(1, 10) / 10)}
    scored = customer_outcomes.score_customers({"customers": rows}, [(CHURN, model)], INPUTS, "v1", edges, DAY)["outcomes"]
    first, *_, last = scored.to_pylist()
    assert len(scored) == n - 1  # c00 ordered too long ago
    assert (first["customer_id"], first["decile"], last["customer_id"], last["decile"]) == ("c01", 10, "c39", 1)
    assert first["probability"] < 0.05 < 0.9 < last["probability"]
    assert last["drivers"] == [
        {"feature": "order_recency_days", "value": 39.0, "raises": True},
        {"feature": "orders_90d", "value": 3.0, "raises": True},
    ]
    assert [driver["feature"] for driver in scored.to_pylist()[1]["drivers"]] == [
        "order_recency_days"
    ]  # c02: orders are the mean
    assert (last["method"], last["model_version"], last["window_days"]) == ("logistic_regression", "v1", 90)


def test_customers_who_are_all_alike_are_in_no_tenth():
    assert customer_outcomes._find_decile(np.zeros(3), np.zeros(9)).to_pylist() == [None] * 3
    assert customer_outcomes._find_decile(np.array([0.0, 4.5, 9.5]), np.arange(1.0, 10)).to_pylist() == [10, 6, 1]


def test_customers_are_encoded_only_where_a_model_reads_the_learned_vector():
    class InputsAlone(PlainEncoder):
        def run(self, matrix, attributes):
            return super().run(matrix, attributes)[:1]

    rows = pa.table({"vector": pa.array([[1.0, 2.0, None]], pa.list_(pa.float32()))})
    with_vector, _ = INPUTS.make_matrix(rows)
    without, _ = replace(INPUTS, encoder=InputsAlone(), has_vector=False).make_matrix(rows)
    assert (with_vector[0, 3], without[0, 3]) == (3.0, 0.0)
    assert np.array_equal(np.delete(with_vector, 3, axis=1), np.delete(without, 3, axis=1))
    models = {
        name: OutcomeModel("churn", name, Linear(np.zeros(3), np.zeros(3)), Calibration()) for name in ("svm", "svm_with_vector")
    }
    champion = _outcome_training.Champion("v", "v1", {"churn": models["svm"]}, {})
    assert not champion.uses_vector
    assert replace(champion, models=models).uses_vector


TEXT, OWN = (Reduction(group, "m", np.zeros(1, np.float32), np.ones((1, 1), np.float32)) for group in ("text", "own_vectors"))
WITH_GROUPS = replace(INPUTS, reductions=(TEXT, OWN))


def make_cases_with_groups(n: int) -> tuple[Cases, np.ndarray]:
    """Cases in which customers with a low number of text churn; what they have of own vectors says nothing."""
    random = np.random.default_rng(5)
    cases, tenths = make_cases(n, 5)
    vectors = random.normal(size=(n, 2)).astype(np.float32)
    vectors[::4] = np.nan
    groups = {r.group: GroupVectors(r.group, "m", vectors[:, [k]]) for k, r in enumerate((TEXT, OWN))}
    columns = [TEXT.apply(groups["text"], n), OWN.apply(groups["own_vectors"], n)]
    odds = -2 * cases.matrix[:, 2] - 2 * columns[0][:, 0]
    return Cases(np.hstack([cases.matrix, *columns]), (random.random(n) < 1 / (1 + np.exp(-odds))).astype(np.int8)), tenths


@pytest.fixture
def choose_with_groups(monkeypatch):
    """A function that returns the published model and its facts for cases with groups; scikit-learn is in the place of MLlib."""

    def fit(_lake, names, cases, columns, seed):
        rows = cases.matrix[:, columns]
        fitted = LogisticRegression(random_state=seed).fit(rows, cases.labels)
        return dict.fromkeys(names, Linear(fitted.coef_[0], rows.mean(axis=0)))

    monkeypatch.setattr(_outcome_training, "BY_SPARK", ("logistic_regression",))
    monkeypatch.setattr(_outcome_training, "_fit_by_spark", fit)

    def choose(cases: tuple[Cases, np.ndarray]):
        return _outcome_training._choose_model(None, load_settings({}), WITH_GROUPS, CHURN, split_cases({DAY: cases}), {})

    return choose


def test_groups_are_read_where_they_foretell_more_than_chance_and_each_is_measured(choose_with_groups):
    model, facts = choose_with_groups(make_cases_with_groups(3000))
    assert model.method == "logistic_regression_with_groups"
    text, own, every = facts["ablation"]
    assert [row["input_group"] for row in (text, own, every)] == ["text", "own_vectors", "all"]
    assert text["gain_low"] > 0.02
    assert own["gain_low"] < 0.005
    assert every["gain_low"] > 0.02
    assert text["n_with_group"] == pytest.approx(0.75 * text["n_customers"], rel=0.1)
    assert facts["figures"][model.method]["roc_auc"][0] == pytest.approx(every["roc_auc"] + every["gain"], abs=1e-6)
    assert "text component 1" in {row["feature"] for row in facts["top_features"]}
    assert not any("learned vector" in row["feature"] for row in facts["top_features"])


def test_groups_that_foretell_nothing_are_not_read(choose_with_groups):
    cases, tenths = make_cases(3000, 6)
    noise = np.random.default_rng(6).normal(size=(3000, 4)).astype(np.float32)
    model, facts = choose_with_groups((replace(cases, matrix=np.hstack([cases.matrix, noise])), tenths))
    assert model.method == "logistic_regression"
    assert all(row["gain_low"] < 0.005 for row in facts["ablation"])


def test_a_plain_rule_that_wins_scores_days_without_the_columns_of_groups(choose_with_groups):
    cases, tenths = make_cases(3000, 6, informative=False)
    noise = np.random.default_rng(6).normal(size=(3000, 4)).astype(np.float32)
    model, _ = choose_with_groups((replace(cases, matrix=np.hstack([cases.matrix, noise])), tenths))
    assert model.method in ("prevalence", "recency")
    assert model.score(cases.matrix).shape == (3000,)
    assert model.explain(cases.matrix)[1].shape == cases.matrix.shape


def test_a_day_is_scored_by_the_vectors_that_its_customers_have(choose_with_groups):
    model, _ = choose_with_groups(make_cases_with_groups(3000))
    model = OutcomeModel.from_record(json.loads(json.dumps(model.to_record())))
    table = INPUTS.table
    columns = [table.arrow_schema.field(name) for name in INPUTS.customers_of(DAY).columns]
    customer = {"day": DAY, "vector": [1.0, 2.0, 0.0], "last_seen_day": DAY, "last_order_day": DAY}
    customers = pa.Table.from_pylist([customer | {"customer_id": name} for name in ("high", "low", "none")], pa.schema(columns))
    rows = [("high", 2.0), ("low", -2.0)]
    vectors = pa.table({"customer_id": [name for name, _ in rows], "vector": [[number] for _, number in rows]})
    tables = {"customers": customers, "text": vectors, "own_vectors": vectors.slice(0, 0)}
    edges = {"churn": np.zeros(9)}
    scored = customer_outcomes.score_customers(tables, [(CHURN, model)], WITH_GROUPS, "v1", edges, DAY)["outcomes"].to_pylist()
    high, low, none = (row["probability"] for row in scored)
    assert high < none - 0.1 < low - 0.2
    assert all(driver["feature"] in (*FEATURES, "recency_days") for row in scored for driver in row["drivers"])  # they have names


def test_a_model_that_reads_vectors_of_another_text_model_scores_nobody_and_says_what_to_do(tmp_path):
    settings = replace(load_settings({}), models=str(tmp_path / "models"))
    lake = Lake(None, str(tmp_path / "lake"))
    churn = OutcomeModel(
        "churn", "linear_svm_with_groups", Linear(np.zeros(5), np.zeros(5)), Calibration(), columns=(0, 1, 2, 6, 7)
    )
    returns = OutcomeModel("returns", "linear_svm", Linear(np.zeros(3), np.zeros(3)), Calibration())
    record = {"encoder": "v1", "left_out": {}, "groups": [TEXT.to_record()]}
    record |= {"models": [model.to_record() for model in (churn, returns)]}

    def write(folder):
        (folder / "model.json").write_text(json.dumps(record))
        (folder / "meta.json").write_text("{}")

    models.save_champion(settings.models, "v1", write, DAY, models.CUSTOMER_OUTCOMES)
    for model, scored in (("m", {"churn", "returns"}), ("n", {"returns"})):
        row = {"customer_id": "c1", "day": DAY, "input_group": "text", "model": model, "vector": [1.0]}
        lake.replace_rows(INTERESTS, pa.Table.from_pylist([row], INTERESTS.arrow_schema), [DAY])
        champion = _outcome_training.prepare_champion(lake, settings, DAY, retrain=False)
        assert champion.models.keys() == scored
        assert len(champion.reductions) == (model == "m")
    assert champion.left_out["churn"] == (
        "its model reads text vectors of m, and the day has n; "
        "fit again: shoal refresh --retrain --steps features,train,score --day 2024-06-01"
    )


def test_a_shop_without_declared_outcomes_has_an_empty_table_and_no_complaint(tmp_path):
    (tmp_path / "outcomes.toml").write_text("")
    settings = replace(load_settings({}), outcomes=str(tmp_path / "outcomes.toml"), models=str(tmp_path / "models"))
    lake = Lake(None, str(tmp_path / "lake"))
    assert customer_outcomes.run(lake, settings, DAY, retrain=True) is None
    assert lake.read_arrow(customer_outcomes.TABLE).num_rows == 0
