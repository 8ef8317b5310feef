"""`python -m benchmarks.planted_groups`: whether texts and the order of events find what the sample shop planted in them.

Tastes show in texts and rhythms in the order of events; the features see neither. The customers are clustered by each
representation of the model, and the clusters compared with the tastes, rhythms and types by the adjusted Rand index. The same
shop with nothing planted is made too: there the same customers get the tastes and rhythms that they would have had, and no
representation may find them. Trees on the features show that these do not give them away. `--work DIR` keeps the shops and lakes.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from benchmarks import measure
from jobs.representations import BASELINES, list_learned_representations, load_representations
from jobs.sample import writer
from jobs.sample.customers import ALL_PLANTS, Plants
from jobs.segments._sample import Sample, draw_sample
from jobs.storage import models
from jobs.storage.lake import Lake

CUSTOMERS, DAYS, SEED = 4_000, 120, 11
LAST_DAY = date(2026, 3, 31)
SHOPS = {"planted": ALL_PLANTS, "nothing planted": Plants(tastes=False, rhythms=False)}
CLUSTERS = (6, 8, 10)  # the mean over these counts
RIGHT = (("taste", "learned_text"), ("rhythm", "sequence"), ("rhythm", "learned_sequence"))  # which should find it
MIN_GAIN, MAX_FALSE_GAIN = 0.1, 0.02  # of the right representation over the learned embedding, in adjusted Rand index
MAX_AUC = 0.55  # of trees on the features
STEPS = "land,clean,features,train,encode"


def main(arguments: list[str] | None = None) -> int:
    """Print the adjusted Rand index by representation, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted_groups", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--work", type=Path, help="folder that keeps the shops and lakes; those in it are not made again")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as temporary:
        folders = {name: (options.work or Path(temporary)) / name.replace(" ", "_") for name in SHOPS}
        for name, folder in folders.items():
            if not (folder / "done").exists():
                if code := _refresh_shop(folder, options.customers, SHOPS[name]):
                    return code
                (folder / "done").touch()
        truth = _read_truth(folders["planted"] / "input")
        gains = {name: _compare_representations(name, folder, truth) for name, folder in folders.items()}
    for group, representation in RIGHT:
        gain, false_gain = (gains[shop][group, representation] for shop in ("planted", "nothing planted"))
        measure.check_at_least(f"planted_groups: {group}, {representation} less learned", gain, MIN_GAIN)
        measure.check_at_most(f"planted_groups: the same with nothing planted, {group}", false_gain, MAX_FALSE_GAIN)
    return 0


def _refresh_shop(folder: Path, customers: int, plants: Plants) -> int:
    writer.write_shop(folder / "input", customers, DAYS, SEED, LAST_DAY, plants=plants)
    environment = {f"SHOAL_{name.upper()}": str(folder / name) for name in ("lake", "models", "input", "reports")}
    environment |= {"SHOAL_SOURCE": "sample", "SHOAL_SECRET": "a made-up shop has none"}
    command = measure.python_command("-m", "jobs", "refresh", "--steps", STEPS, "--day", str(LAST_DAY))
    return subprocess.run(command, cwd=measure.ROOT, env={**os.environ, **environment}, check=False).returncode


def _read_truth(shop: Path) -> dict[str, dict[str, str]]:
    with (shop / "truth/customers.csv").open(newline="") as file:
        return {row["customer_id"]: row for row in csv.DictReader(file)}


def _compare_representations(shop: str, folder: Path, truth: dict[str, dict[str, str]]) -> dict[tuple[str, str], float]:
    """Print the indices of a shop by representation, and return the gains of RIGHT."""
    lake, root = Lake(None, str(folder / "lake")), str(folder / "models")
    version = models.champion(root, LAST_DAY)["version"]
    meta = models.meta(root, version)
    sample = draw_sample(lake, LAST_DAY, meta, sys.maxsize)
    ids = sample.ids.to_pylist()
    has_truth = np.array([id_ in truth for id_ in ids])
    labels = {group: np.array([truth[id_][group] for id_ in ids if id_ in truth]) for group in ("taste", "rhythm", "type")}
    encoder = load_representations(root, version, meta, [*list_learned_representations(meta), *BASELINES])
    indices = {}
    measure.log(f"{shop}: {has_truth.sum()} active customers, mean index of K-Means with {CLUSTERS} clusters")
    for name, points in zip(encoder.names, encoder.run(*sample.read_inputs(encoder)), strict=True):
        indices[name] = _score_clusters(points[has_truth], labels)
        measure.log(f"  {name:<22}" + "".join(f"{group} {index:6.3f}   " for group, index in indices[name].items()))
    _check_features(shop, sample, has_truth, labels)
    learned = indices["learned"]  # stands where the model lacks the right one
    return {(group, name): indices.get(name, learned)[group] - learned[group] for group, name in RIGHT}


def _score_clusters(points: np.ndarray, labels: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the adjusted Rand index of clusters of n points (n x d) with each of the groups, which have n labels."""
    clusters = [KMeans(k, n_init=5, random_state=SEED).fit_predict(points) for k in CLUSTERS]
    return {
        group: float(np.mean([adjusted_rand_score(names, assigned) for assigned in clusters])) for group, names in labels.items()
    }


def _check_features(shop: str, sample: Sample, has_truth: np.ndarray, labels: dict[str, np.ndarray]) -> None:
    for group in dict(RIGHT):
        trees = ExtraTreesClassifier(200, min_samples_leaf=5, random_state=SEED)
        features = np.nan_to_num(sample.features[has_truth], nan=-1)
        scores = cross_val_predict(trees, features, labels[group], cv=5, method="predict_proba")
        auc = roc_auc_score(labels[group], scores, multi_class="ovr")
        measure.check_at_most(f"planted_groups: ROC-AUC of features for {group}, {shop}", auc, MAX_AUC)


if __name__ == "__main__":
    sys.exit(main())
