"""The isolation score, how unusual a customer is: the anomaly score of an isolation forest on the network's inputs.

Liu, Ting, Zhou, "Isolation Forest", ICDM 2008: 2^(-E[h]/c). E[h] is the mean path length, the number of splits over the trees
that separate a customer from the others, and c is the mean expected in a sample of a tree's size. A score above 0.5 is more
unusual than the average, near 1 is an anomaly.
"""

import numpy as np
import onnx
from sklearn.ensemble import IsolationForest

N_TREES, CUSTOMERS_PER_TREE = 100, 256  # as in the paper


def fit_forest(inputs: np.ndarray, seed: int) -> IsolationForest:
    """Return a forest fitted on training customers (n_customers, n_inputs)."""
    max_samples = min(CUSTOMERS_PER_TREE, len(inputs))
    return IsolationForest(n_estimators=N_TREES, max_samples=max_samples, random_state=seed).fit(inputs)


def expected_path_length(n_customers: np.ndarray) -> np.ndarray:
    """Return c(n) of the paper: the mean number of splits until one of n customers is separated.

    >>> expected_path_length(np.array([1, 2, 256])).round(4)
    array([ 0.    ,  1.    , 10.2448])
    """
    n = np.maximum(n_customers, 3)
    above_two = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    return np.where(n_customers > 2, above_two, np.where(n_customers == 2, 1.0, 0.0))


def to_onnx_node(forest: IsolationForest, source: str, target: str) -> onnx.NodeProto:
    """Return one ONNX node: E[h] (n_customers, 1) as `target` from the inputs (n_customers, n_inputs) as `source`.

    The weight of a leaf is its depth plus c of its customers.
    """
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
        nodes["values"] += np.where(is_leaf, 0, _round_down(tree.threshold)).tolist()
        nodes["truenodeids"] += np.where(is_leaf, 0, tree.children_left).tolist()
        nodes["falsenodeids"] += np.where(is_leaf, 0, tree.children_right).tolist()
        leaves["treeids"] += [number] * int(is_leaf.sum())
        leaves["nodeids"] += np.flatnonzero(is_leaf).tolist()
        leaves["ids"] += [0] * int(is_leaf.sum())
        leaves["weights"] += (_node_depths(tree) + expected_path_length(tree.n_node_samples))[is_leaf].tolist()
    attributes = {f"nodes_{k}": v for k, v in nodes.items()} | {f"target_{k}": v for k, v in leaves.items()}
    return onnx.helper.make_node(
        "TreeEnsembleRegressor", [source], [target], domain="ai.onnx.ml", n_targets=1, aggregate_function="AVERAGE", **attributes
    )


def _round_down(thresholds: np.ndarray) -> np.ndarray:
    """Return the largest float32 up to each threshold: comparing a float32 with it gives the same answer."""
    single = thresholds.astype(np.float32)
    return np.where(single > thresholds, np.nextafter(single, np.float32(-np.inf)), single)


def _node_depths(tree) -> np.ndarray:
    """Return the depth of each node (n_nodes,) of a scikit-learn tree."""
    depths = np.zeros(tree.node_count)
    for node in range(tree.node_count):  # children come after their parent
        if tree.children_left[node] != -1:
            depths[[tree.children_left[node], tree.children_right[node]]] = depths[node] + 1
    return depths
