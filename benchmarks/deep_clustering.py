"""Clusters of the autoencoder's vectors compared with labels: `python benchmarks/deep_clustering.py --data FILE.npz`.

FILE has the arrays `x` (n_rows, n_features) or (n_rows, height, width), and `y` (n_rows,), the labels. Only the number of
clusters and the scores use the labels. Preprocessing, sizes and settings are the defaults of jobs/settings.py, the same for
every file. Run it with the Python of the training environment, .venv/train/bin/python.

ACC is the share of rows whose cluster is matched to their label, by the best matching of clusters and labels (Kuhn 1955). NMI
is the mutual information divided by the arithmetic mean of both entropies. Vectors are clustered by K-Means with 20 restarts;
joint training assigns rows to clusters itself. A line has the mean over seeds, the standard deviation, and the seconds of all
seeds.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from math import inf
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score

from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.fitting import FittedAutoencoder, fit_autoencoder
from jobs.autoencoder.preprocessing import fit_preprocessing
from jobs.config.policy import Column, Selection
from jobs.config.settings import Train
from jobs.errors import UserError

KMEANS_RESTARTS = 20
ROWS_PER_VALIDATION_ROW = 10  # validation rows decide when to stop


def main(argv: list[str] | None = None) -> int:
    """Print a line for each method and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, type=Path, help=".npz file with arrays x and y")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each method")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at the same time, a thread each")
    arguments = parser.parse_args(argv)
    try:
        x, y = read_labelled_rows(arguments.data)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.data.name}: {len(x)} rows of {x.shape[1]} numbers, {len(np.unique(y))} labels", flush=True)
    scores = defaultdict(list)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        seeds = range(arguments.seeds)
        runs = {(name, seed): pool.submit(_score_method, name, arguments.data, seed) for name in METHODS for seed in seeds}
        for (name, seed), run in runs.items():
            scores[name].append(run.result())
            if seed == seeds[-1]:
                print(format_scores(name, np.array(scores[name])), flush=True)
    return 0


def read_labelled_rows(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return x (n_rows, n_features) float32 and y (n_rows,), numbered from 0. Raises UserError for another file."""
    try:
        with np.load(path) as file:
            x, labels = file["x"], file["y"]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except KeyError as error:
        raise UserError(f"{path} lacks an array: {error.args[0]}") from None
    except (ValueError, OSError, zipfile.BadZipFile):
        raise UserError(f"{path} is not an .npz file of plain arrays") from None
    if x.ndim < 2 or labels.shape != (len(x),):
        raise UserError(f"{path}: x {x.shape} and y {labels.shape} must be rows of numbers and one label per row")
    try:
        x = x.reshape(len(x), -1).astype(np.float32)
    except ValueError:
        raise UserError(f"{path}: x has entries that are not numbers") from None
    y = np.unique(labels, return_inverse=True)[1]
    if len(x) <= ROWS_PER_VALIDATION_ROW * (y.max() + 1):
        raise UserError(f"{path}: {len(x)} rows are too few for {y.max() + 1} labels")
    return x, y


def format_scores(name: str, scores: np.ndarray) -> str:
    """Return the line for the scores (n_seeds, 3) of a method: ACC, NMI and seconds.

    >>> format_scores("raw k-means", np.array([[0.5, 0.4, 1.0], [0.7, 0.4, 1.2]]))
    'raw k-means            ACC 0.600 ± 0.100  NMI 0.400 ± 0.000  (2 seeds, 2 s)'
    """
    (acc, nmi, _), (acc_deviation, nmi_deviation, _) = scores.mean(axis=0), scores.std(axis=0)
    means = f"ACC {acc:.3f} ± {acc_deviation:.3f}  NMI {nmi:.3f} ± {nmi_deviation:.3f}"
    return f"{name:<22} {means}  ({len(scores)} seeds, {scores[:, 2].sum():.0f} s)"


def accuracy(y: np.ndarray, clusters: np.ndarray) -> float:
    """Return ACC of labels and clusters (n_rows,).

    >>> accuracy(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1]))
    0.75
    """
    counts = np.zeros((clusters.max() + 1, y.max() + 1), dtype=np.int64)
    np.add.at(counts, (clusters, y), 1)
    return float(counts[linear_sum_assignment(-counts)].sum() / len(y))


def _score_method(name: str, path: Path, seed: int) -> tuple[float, float, float]:
    """Return ACC, NMI and seconds."""
    x, y = cache(read_labelled_rows)(path)
    started = time.perf_counter()
    clusters = METHODS[name](x, int(y.max()) + 1, seed)
    return accuracy(y, clusters), float(normalized_mutual_info_score(y, clusters)), time.perf_counter() - started


def _cluster_rows(x: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    return _cluster_vectors(np.nan_to_num(x), n_clusters, seed)


def _cluster_components(x: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    pca = PCA(min(Train.latent, *x.shape), random_state=seed)
    return _cluster_vectors(pca.fit_transform(np.nan_to_num(x)), n_clusters, seed)


def _cluster_latent(x: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    fitted, inputs = _fit_autoencoder(x, seed, n_clusters=0)
    return _cluster_vectors(fitted.model.encode(inputs).numpy(), n_clusters, seed)


def _cluster_jointly(x: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    fitted, inputs = _fit_autoencoder(x, seed, n_clusters)
    with torch.no_grad():
        return fitted.soft_assignment(inputs).argmax(dim=1).numpy()


def _cluster_vectors(vectors: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    return KMeans(n_clusters, n_init=KMEANS_RESTARTS, random_state=seed).fit_predict(vectors)


def _fit_autoencoder(x: np.ndarray, seed: int, n_clusters: int) -> tuple[FittedAutoencoder, torch.Tensor]:
    """Return the trained network, and the inputs (n_rows, n_inputs) of all rows."""
    settings = replace(Train(), seed=seed, clusters=n_clusters)
    order = np.random.default_rng(seed).permutation(len(x))
    no_codes = np.empty((len(x), 0), dtype=np.int64)
    names = [str(number) for number in range(x.shape[1])]
    fitted = fit_preprocessing(x, no_codes, names, [Column()] * len(names), {}, Selection(), seed)
    validation_rows, train_rows = np.split(order, [len(x) // ROWS_PER_VALIDATION_ROW])
    train, validation = fitted.inputs[train_rows], fitted.inputs[validation_rows]
    with tempfile.TemporaryDirectory() as folder:
        no_checkpoint = CheckpointFile(folder, "benchmark", interval_seconds=inf)
        trained = fit_autoencoder(fitted.parameters, [train], validation, settings, no_checkpoint, lambda _: None)
    return trained, fitted.inputs


METHODS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "raw k-means": _cluster_rows,
    "PCA + k-means": _cluster_components,
    "autoencoder + k-means": _cluster_latent,
    "joint training": _cluster_jointly,
}

if __name__ == "__main__":
    sys.exit(main())
