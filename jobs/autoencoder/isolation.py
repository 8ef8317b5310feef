"""How unusual a customer is: the anomaly score of an isolation forest on the network's columns.

Liu, Ting, Zhou, "Isolation Forest", ICDM 2008: 2^(-E[h]/c), where E[h] is the mean number of splits that part a customer
from the rest, over the trees, and c the one expected in a sample as large as a tree's. Above 0.5 is more unusual than
the average, near 1 is an anomaly.
"""

import numpy as np
import onnx
from sklearn.ensemble import IsolationForest

TREES, CUSTOMERS_PER_TREE = 100, 256  # as in the paper


def fit(inputs: np.ndarray, seed: int) -> IsolationForest:
    """A forest over training customers (n x columns)."""
    return IsolationForest(n_estimators=TREES, max_samples=min(CUSTOMERS_PER_TREE, len(inputs)), random_state=seed).fit(inputs)


def expected_splits(customers: np.ndarray) -> np.ndarray:
    """c(n) of the paper: the mean number of splits until one of n customers stands alone.

    >>> expected_splits(np.array([1, 2, 256])).round(4)
    array([ 0.    ,  1.    , 10.2448])
    """
    n = np.maximum(customers, 3)
    many = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    return np.where(customers > 2, many, np.where(customers == 2, 1.0, 0.0))


def tree_ensemble(forest: IsolationForest, source: str, target: str) -> onnx.NodeProto:
    """One ONNX node that gives E[h] (n x 1) of `source` (n x columns): a leaf's weight is its depth and c of its customers."""
    nodes: dict[str, list] = {
        name: [] for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for number, estimator in enumerate(forest.estimators_):
        tree = estimator.tree_
        is_leaf = tree.children_left == -1
        nodes["treeids"] += [number] * tree.node_count
        nodes["nodeids"] += range(tree.node_count)
        nodes["featureids"] += np.where(is_leaf, 0, tree.feature).tolist()
        nodes["modes"] += np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist()
        nodes["values"] += np.where(is_leaf, 0, _rounded_down(tree.threshold)).tolist()
        nodes["truenodeids"] += np.where(is_leaf, 0, tree.children_left).tolist()
        nodes["falsenodeids"] += np.where(is_leaf, 0, tree.children_right).tolist()
        leaves["treeids"] += [number] * int(is_leaf.sum())
        leaves["nodeids"] += np.flatnonzero(is_leaf).tolist()
        leaves["ids"] += [0] * int(is_leaf.sum())
        leaves["weights"] += (_depths(tree) + expected_splits(tree.n_node_samples))[is_leaf].tolist()
    attributes = {f"nodes_{k}": v for k, v in nodes.items()} | {f"target_{k}": v for k, v in leaves.items()}
    return onnx.helper.make_node(
        "TreeEnsembleRegressor", [source], [target], domain="ai.onnx.ml", n_targets=1, aggregate_function="AVERAGE", **attributes
    )


def _rounded_down(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 not above: a float32 is at most the threshold where it is at most this."""
    single = threshold.astype(np.float32)
    return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single)


def _depths(tree) -> np.ndarray:
    depths = np.zeros(tree.node_count)
    for node in range(tree.node_count):  # children come after their parent
        if tree.children_left[node] != -1:
            depths[[tree.children_left[node], tree.children_right[node]]] = depths[node] + 1
    return depths
