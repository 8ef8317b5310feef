"""How well the autoencoder's vectors cluster where the truth is known: `python benchmarks/deep_clustering.py --data FILE.npz`.

FILE has the arrays `x` (n x numbers, or n x height x width) and `y` (n labels). The labels give the number of clusters and the
scores, and are seen by nothing else. Preprocessing, sizes and settings are the pipeline's own (jobs/settings.py), the same for
every file. Run it with the Python of the training environment, .venv/train/bin/python.

ACC is the share of rows in the cluster that the best matching of clusters and labels (Kuhn 1955) gives their label; NMI is
mutual information over the arithmetic mean of both entropies. Vectors are clustered by K-Means with 20 starts; joint training
says itself which cluster a row belongs to. A line has the mean over seeds, the standard deviation, and the seconds of all.
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

from jobs.autoencoder import preprocessing
from jobs.autoencoder.checkpoints import Checkpoints
from jobs.autoencoder.train import Learned, learn
from jobs.config.policy import Column, Selection
from jobs.config.settings import Train
from jobs.errors import UserError

STARTS = 20
VALIDATION = 10  # one row in so many decides when to stop


def main(argv: list[str] | None = None) -> int:
    """Print a line for each method; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, type=Path, help=".npz file with arrays x and y")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each method")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at the same time, a thread each")
    given = parser.parse_args(argv)
    try:
        x, y = read(given.data)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.data.name}: {len(x)} rows of {x.shape[1]} numbers, {len(np.unique(y))} labels", flush=True)
    scores = defaultdict(list)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.processes, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        runs = {(name, seed): pool.submit(_run, name, given.data, seed) for name in METHODS for seed in range(given.seeds)}
        for (name, seed), run in runs.items():
            scores[name].append(run.result())
            if seed == given.seeds - 1:
                print(line(name, np.array(scores[name])), flush=True)
    return 0


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """x (n x d float32) and y (n, 0, 1, ...) of a file; raises UserError for one that is not as it should be."""
    try:
        with np.load(path) as file:
            x, labels = file["x"], file["y"]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except KeyError as error:
        raise UserError(f"{path} lacks an array: {error.args[0]}") from None
    except (ValueError, OSError, zipfile.BadZipFile):
        raise UserError(f"{path} is no .npz file of plain arrays") from None
    if x.ndim < 2 or labels.shape != (len(x),):
        raise UserError(f"{path}: x {x.shape} and y {labels.shape} must be n x numbers and n labels")
    try:
        x = x.reshape(len(x), -1).astype(np.float32)
    except ValueError:
        raise UserError(f"{path}: x has entries that are no numbers") from None
    y = np.unique(labels, return_inverse=True)[1]
    if len(x) <= VALIDATION * (y.max() + 1):
        raise UserError(f"{path}: {len(x)} rows are too few for {y.max() + 1} labels")
    return x, y


def line(name: str, scores: np.ndarray) -> str:
    """What is printed of one method's runs (runs x (ACC, NMI, seconds)).

    >>> line("raw k-means", np.array([[0.5, 0.4, 1.0], [0.7, 0.4, 1.2]]))
    'raw k-means            ACC 0.600 ± 0.100  NMI 0.400 ± 0.000  (2 seeds, 2 s)'
    """
    (acc, nmi, _), (acc_off, nmi_off, _) = scores.mean(axis=0), scores.std(axis=0)
    told = f"ACC {acc:.3f} ± {acc_off:.3f}  NMI {nmi:.3f} ± {nmi_off:.3f}"
    return f"{name:<22} {told}  ({len(scores)} seeds, {scores[:, 2].sum():.0f} s)"


def accuracy(y: np.ndarray, found: np.ndarray) -> float:
    """
    >>> accuracy(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1]))
    0.75
    """
    counts = np.zeros((found.max() + 1, y.max() + 1), dtype=np.int64)
    np.add.at(counts, (found, y), 1)
    return float(counts[linear_sum_assignment(-counts)].sum() / len(y))


def _run(name: str, path: Path, seed: int) -> tuple[float, float, float]:
    x, y = cache(read)(path)
    started = time.perf_counter()
    found = METHODS[name](x, int(y.max()) + 1, seed)
    return accuracy(y, found), float(normalized_mutual_info_score(y, found)), time.perf_counter() - started


def _k_means(points: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    return KMeans(clusters, n_init=STARTS, random_state=seed).fit_predict(points)


def _pca(x: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    whole = np.nan_to_num(x)
    return _k_means(PCA(min(Train.latent, *x.shape), random_state=seed).fit_transform(whole), clusters, seed)


def _autoencoder(x: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    learned, inputs = _learned(x, seed, clusters=0)
    return _k_means(learned.model.encode(inputs).numpy(), clusters, seed)


def _joint(x: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    learned, inputs = _learned(x, seed, clusters)
    with torch.no_grad():
        return learned.belongs(inputs).argmax(dim=1).numpy()


def _learned(x: np.ndarray, seed: int, clusters: int) -> tuple[Learned, torch.Tensor]:
    """The trained network, and what it saw of all rows."""
    settings = replace(Train(), seed=seed, clusters=clusters)
    order = np.random.default_rng(seed).permutation(len(x))
    no_codes = np.empty((len(x), 0), dtype=np.int64)
    names = [str(number) for number in range(x.shape[1])]
    fitted = preprocessing.fit(x, no_codes, names, [Column()] * len(names), {}, Selection(), seed)
    inputs = fitted.inputs
    held_out, learned_from = (inputs[rows] for rows in np.split(order, [len(x) // VALIDATION]))
    with tempfile.TemporaryDirectory() as folder:
        never = Checkpoints(folder, "benchmark", seconds=inf)
        return learn(fitted.numbers, [learned_from], held_out, settings, never, lambda _: None), inputs


METHODS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "raw k-means": lambda x, clusters, seed: _k_means(np.nan_to_num(x), clusters, seed),
    "PCA + k-means": _pca,
    "autoencoder + k-means": _autoencoder,
    "joint training": _joint,
}

if __name__ == "__main__":
    sys.exit(main())
