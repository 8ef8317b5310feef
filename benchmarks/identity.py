"""`python -m benchmarks.identity --lake DIR`: who keeps the segment when centres are fitted on others of the same kind.

As many of the last day's active customers are drawn with replacement, K-Means is fitted on their vectors with the number of
segments that is published, and its clusters are matched with the segments as after a retrain. A vector space of its own, as a
retrained encoder has, is not part of it.
"""

import argparse
import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from jobs.config.settings import Segment
from jobs.segments import _matching
from jobs.storage.delta import read_arrow
from jobs.traits import DORMANT

DRAWS = 10


def main(arguments: list[str] | None = None) -> int:
    """Print both figures of each draw, and their means."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.identity", description=__doc__.split("\n\n")[0])
    parser.add_argument("--lake", required=True, help="a lake with segments")
    parser.add_argument("--draws", type=int, default=DRAWS)
    given = parser.parse_args(arguments)
    vectors, segments = _segmented(given.lake)
    k = len(np.unique(segments))
    print(f"{len(segments):,} active customers in {k} segments")
    found = np.array([_refitted(vectors, segments, k, seed) for seed in range(given.draws)])
    print("draw   adjusted Rand index   keep their segment")
    for name, (index, kept) in [*enumerate(found), ("mean", found.mean(axis=0)), ("least", found.min(axis=0))]:
        print(f"{name:<7}{index:>19.3f}{kept:>19.2%}")
    return 0


def _segmented(lake: str) -> tuple[np.ndarray, np.ndarray]:
    """The vectors (n x latent) and segments (n) of the customers who are active on the last day."""
    day = pc.max(read_arrow(lake, "segments.assignments", ["day"])["day"]).as_py()
    assigned = read_arrow(lake, "segments.assignments", ["customer_id", "segment_id"], day)
    encoded = read_arrow(lake, "encoded.customers", ["customer_id", "vector"], day)
    ids = assigned.filter(pc.field("segment_id") != DORMANT)
    at = pc.index_in(ids["customer_id"], encoded["customer_id"].combine_chunks())
    vectors = encoded["vector"].take(at).combine_chunks().cast(pa.list_(pa.float32()))
    return vectors.flatten().to_numpy().reshape(len(ids), -1), ids["segment_id"].to_numpy()


def _refitted(vectors: np.ndarray, segments: np.ndarray, k: int, seed: int) -> tuple[float, float]:
    """The adjusted Rand index between the segments and the clusters of a draw, and the share of customers who keep theirs."""
    drawn = np.random.default_rng(seed).integers(len(vectors), size=len(vectors))
    clusters = KMeans(k, n_init=Segment().seeds, random_state=seed).fit(vectors[drawn]).predict(vectors) + 1  # 0 would be dormant
    shared = Counter(zip(segments.tolist(), clusters.tolist(), strict=True))
    matched = _matching.matches(shared, Segment().kept_share)
    kept = sum(n for (old, new), n in shared.items() if matched.get(new) == old)
    return adjusted_rand_score(segments, clusters), kept / len(segments)


if __name__ == "__main__":
    sys.exit(main())
