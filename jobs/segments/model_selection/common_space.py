"""The space in which the compactness of all representations is measured: the features, and all groups of inputs of the model."""

from collections.abc import Mapping

import numpy as np

from jobs.input_groups import GROUPS


def complete_groups(space: np.ndarray, groups: Mapping[str, dict], seed: int) -> np.ndarray:
    """Return the common space (n x d) with a group for every customer: who has none gets that of a random other customer.

    A block of zeros stands for none, see jobs/autoencoder/group_blocks.py. Left as they are, these customers would lie in one
    place, and clusters that only separate them from the others would be compact. `groups` holds by group what meta.json says.
    """
    space, random = space.copy(), np.random.default_rng(seed)
    stop = space.shape[1]
    for group in reversed([group for group in GROUPS if group in groups]):
        block = slice(stop - groups[group]["components"], stop)
        stop = block.start
        is_there = space[:, block].any(axis=1)
        if is_there.any():
            space[~is_there, block] = random.choice(space[is_there, block], size=int((~is_there).sum()))
    return space
