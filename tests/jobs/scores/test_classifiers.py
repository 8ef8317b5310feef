"""Classifiers as arrays: scores as MLlib gives them, contributions that add up, calibration, and measures."""

import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics

from jobs.outcome_cases import area_under_roc
from jobs.scores._classification_metrics import (
    choose_simplest,
    choose_threshold,
    log_losses,
    measure,
    resample_areas,
    trace_roc,
)
from jobs.scores._classifiers import Calibration, Linear, Network, from_record, to_record
from jobs.scores._resampling import draw_resamples

RANDOM = np.random.default_rng(5)
MATRIX = RANDOM.normal(size=(600, 6)).astype(np.float32)
LABELS = (MATRIX[:, 0] + MATRIX[:, 1] * MATRIX[:, 2] + RANDOM.normal(size=600) > 0.5).astype(np.int8)


@pytest.fixture(scope="module")
def fitted(spark, tmp_path_factory):
    """The classifiers of MLlib as arrays, the probabilities that MLlib itself gives, and the folder of the lake."""
    from pyspark.ml.functions import array_to_vector

    from jobs.scores import _spark_fits

    lake = tmp_path_factory.mktemp("lake")
    rows = [(number, row.tolist()) for number, row in enumerate(MATRIX)]
    frame = spark.createDataFrame(rows, "row long, features array<float>")
    frame = frame.select("row", array_to_vector("features").alias("features"))
    probabilities, read_trees = {}, _spark_fits._read_trees

    def read(model, folder, name):
        scored = model.transform(frame).select("row", "probability").collect()
        probabilities[name] = np.array([row.probability[1] for row in sorted(scored)])
        return read_trees(model, folder, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_spark_fits, "_read_trees", read)
        patch.setattr(_spark_fits, "_FOREST_TREES", 5)
        patch.setattr(_spark_fits, "_BOOSTED_TREES", 8)
        classifiers = _spark_fits.fit_classifiers(spark, str(lake), list(_spark_fits.make_estimators(3)), MATRIX, LABELS, 3)
    return classifiers, probabilities, lake


def test_trees_give_the_probabilities_of_mllib_and_leave_nothing_in_the_lake(fitted):
    classifiers, probabilities, lake = fitted
    assert classifiers["random_forest"].score(MATRIX) == pytest.approx(probabilities["random_forest"])
    assert expit(2 * classifiers["boosted_trees"].score(MATRIX)) == pytest.approx(probabilities["boosted_trees"])
    assert not list(lake.glob("*/*"))


@pytest.mark.parametrize("name", ["logistic_regression", "linear_svm", "random_forest", "boosted_trees"])
def test_contributions_add_up_to_the_distance_from_the_typical_score(fitted, name):
    classifier = fitted[0][name]
    scores, contributions = classifier.explain(MATRIX)
    distance = scores - contributions.sum(axis=1)
    assert np.array_equal(scores, classifier.score(MATRIX))
    assert np.allclose(distance, distance[0], atol=1e-4)
    assert area_under_roc(classifier.score(MATRIX), LABELS) > 0.7
    again = from_record(json.loads(json.dumps(to_record(classifier))))
    assert np.array_equal(again.score(MATRIX), classifier.score(MATRIX))


def test_trees_find_what_a_linear_classifier_cannot(fitted):
    areas = {name: area_under_roc(classifier.score(MATRIX), LABELS) for name, classifier in fitted[0].items()}
    assert areas["boosted_trees"] > areas["logistic_regression"] + 0.05


def test_a_classifier_reads_the_columns_that_it_was_fitted_on():
    wide = np.hstack([MATRIX, np.full((600, 2), 1e6, np.float32)])
    linear = Linear(np.arange(6.0), np.zeros(6))
    network = Network(RANDOM.normal(size=(6, 4)), np.zeros(4), np.ones(4), np.zeros(6))
    for classifier in (linear, network):
        assert np.allclose(classifier.score(wide), classifier.score(MATRIX), rtol=1e-5)
        _, contributions = classifier.explain(wide)
        assert contributions.shape == wide.shape
        assert not contributions[:, 6:].any()


def test_the_score_of_a_customer_does_not_depend_on_who_is_scored_beside_them():
    matrix = np.random.default_rng(0).normal(size=(20_000, 110)).astype(np.float32)
    linear = Linear(RANDOM.normal(size=107), np.zeros(107))
    network = Network(RANDOM.normal(size=(107, 32)), np.zeros(32), RANDOM.normal(size=32), np.zeros(107))
    for classifier in (linear, network):
        scores = classifier.score(matrix)
        for first, end in ((3, 777), (5, 6), (1, 20_000), (19_990, 20_000)):
            assert np.array_equal(classifier.score(np.ascontiguousarray(matrix[first:end])), scores[first:end])


@pytest.mark.parametrize("n", [300, 4000])
def test_probabilities_are_the_shares_that_come_true(n):
    random = np.random.default_rng(1)
    scores = random.normal(size=n)
    labels = (random.random(n) < 1 / (1 + np.exp(-2 * scores))).astype(np.int8)
    calibration = Calibration.fit(scores, labels)
    probabilities = calibration.apply(np.sort(scores))
    assert (np.diff(probabilities) >= 0).all()
    assert probabilities.min() > 0 < 1 - probabilities.max()
    high = scores > 1
    assert calibration.apply(scores[high]).mean() == pytest.approx(labels[high].mean(), abs=0.06)
    assert bool(calibration.scores) == (n == 4000)


def test_a_score_that_says_nothing_is_calibrated_to_the_prevalence():
    labels = np.array([1] * 30 + [0] * 70, np.int8)
    assert Calibration.fit(np.zeros(100), labels).apply(np.zeros(1))[0] == pytest.approx(0.3, abs=0.02)


def test_measures_are_those_of_scikit_learn_within_their_intervals():
    scores = 1 / (1 + np.exp(-MATRIX[:, 0].astype(float).round(1)))  # with ties
    figures = measure(scores, LABELS, 0.5, seed=1)
    predicted = scores >= 0.5
    expected = {
        "log_loss": metrics.log_loss(LABELS, scores), "brier": metrics.brier_score_loss(LABELS, scores),
        "roc_auc": metrics.roc_auc_score(LABELS, scores), "pr_auc": metrics.average_precision_score(LABELS, scores),
        "accuracy": metrics.accuracy_score(LABELS, predicted), "precision": metrics.precision_score(LABELS, predicted),
        "recall": metrics.recall_score(LABELS, predicted), "f1": metrics.f1_score(LABELS, predicted),
    }  # fmt: skip
    assert {name: figure.value for name, figure in figures.items()} == pytest.approx(expected)
    assert all(figure.low < figure.value < figure.high for figure in figures.values())
    assert area_under_roc(scores, LABELS) == pytest.approx(expected["roc_auc"])
    best = choose_threshold(scores, LABELS)
    assert metrics.f1_score(LABELS, scores >= best) == max(metrics.f1_score(LABELS, scores >= s) for s in np.unique(scores))
    assert trace_roc(scores, LABELS)[-1] == (1.0, 1.0)


def test_the_area_under_the_curve_is_that_of_scikit_learn_in_every_resample():
    scores = np.round(np.random.default_rng(4).normal(size=len(LABELS)) + LABELS, 1)  # many ties
    areas = resample_areas(scores, LABELS, seed=3)
    resamples = [np.arange(len(LABELS)), *draw_resamples(len(LABELS), 3)]
    assert len(areas) == len(resamples)
    expected = [metrics.roc_auc_score(LABELS[rows], scores[rows]) for rows in resamples]
    assert areas == pytest.approx(expected, abs=1e-9)


def test_the_simplest_contestant_wins_unless_another_is_better_by_more_than_chance():
    random = np.random.default_rng(2)
    truth = 1 / (1 + np.exp(-MATRIX[:, 0].astype(float)))
    labels = (random.random(600) < truth).astype(np.int8)
    losses = {
        "alike": log_losses(np.full(600, labels.mean()), labels),
        "plain": log_losses(np.clip(truth + 0.02, 0, 0.99), labels),
        "fine": log_losses(truth, labels),
    }
    assert choose_simplest(losses, seed=1) == "plain"
    assert choose_simplest({name: losses[name] for name in ("fine", "plain", "alike")}, seed=1) == "fine"
