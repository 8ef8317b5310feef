"""The fits of K-Means: a customer drawn twice counts twice, and each fit has one thread."""

import numpy as np
from threadpoolctl import threadpool_info

from jobs.config.settings import Segment
from jobs.segments.model_selection import k_sweep


def test_a_customer_whom_a_resample_holds_three_times_counts_three_times():
    vectors = np.array([[0.0], [1.0], [10.0], [11.0], [12.0]])
    fit = k_sweep._fit_best_seed(vectors, np.array([0, 1, 1, 1, 2]), 2, Segment(seeds=3))
    assert sorted(fit.centres[:, 0].tolist()) == [0.75, 10.0]
    assert len(set(fit.labels[:2])) == len(set(fit.labels[2:])) == 1  # customers whom it lacks have a label too


def test_each_fit_of_the_backtest_has_one_thread(monkeypatch):
    threads = []

    def count_threads(vectors, *arguments):
        threads.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "openmp")
        return vectors

    monkeypatch.setattr(k_sweep, "_fit_best_seed", count_threads)
    assert k_sweep.fit_each(["learned", "pca"], [3, 3], Segment()) == ["learned", "pca"]
    assert set(threads) == {1}
