"""`python -m benchmarks.identity --lake DIR`: how many customers keep their segment when centres are fitted on a resample.

The active customers of the last day are resampled with replacement. K-Means is fitted on their vectors with the published number
of segments, and its clusters are matched with the segments as after a retrain. The vector space stays the same; a retrained
encoder would change it.
"""

import argparse
import sys
from collections import Counter

import numpy as np
import pyarrow.compute as pc
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from jobs.config.settings import Segment
from jobs.segments import _matching
from jobs.storage.delta import read_arrow
from jobs.storage.vectors import to_matrix
from jobs.traits import DORMANT

DRAWS = 10


def main(argv: list[str] | None = None) -> int:
    """Print both figures of each resample, their means and their minima."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.identity", description=__doc__.split("\n\n")[0])
    parser.add_argument("--lake", required=True, help="a lake with segments")
    parser.add_argument("--draws", type=int, default=DRAWS)
    arguments = parser.parse_args(argv)
    vectors, segments = _read_segments(arguments.lake)
    k = len(np.unique(segments))
    print(f"{len(segments):,} active customers in {k} segments")
    figures = np.array([_refit(vectors, segments, k, seed) for seed in range(arguments.draws)])
    print("draw   adjusted Rand index   keep their segment")
    for name, (index, kept) in [*enumerate(figures), ("mean", figures.mean(axis=0)), ("least", figures.min(axis=0))]:
        print(f"{name:<7}{index:>19.3f}{kept:>19.2%}")
    return 0


def _read_segments(lake: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors (n x latent) and segments (n) of the customers who are active on the last day."""
    day = pc.max(read_arrow(lake, "segments.assignments", ["day"])["day"]).as_py()
    assignments = read_arrow(lake, "segments.assignments", ["customer_id", "segment_id"], day)
    encoded = read_arrow(lake, "encoded.customers", ["customer_id", "vector"], day)
    active = assignments.filter(pc.field("segment_id") != DORMANT)
    rows = pc.index_in(active["customer_id"], encoded["customer_id"].combine_chunks())
    return to_matrix(encoded["vector"].take(rows)), active["segment_id"].to_numpy()


def _refit(vectors: np.ndarray, segments: np.ndarray, k: int, seed: int) -> tuple[float, float]:
    """Return the adjusted Rand index between segments and clusters of a resample, and the share who keep their segment."""
    rows = np.random.default_rng(seed).integers(len(vectors), size=len(vectors))
    clusters = KMeans(k, n_init=Segment().seeds, random_state=seed).fit(vectors[rows]).predict(vectors) + 1  # 0 would be dormant
    shared = Counter(zip(segments.tolist(), clusters.tolist(), strict=True))
    matches = _matching.match_segments(shared, Segment().kept_share)
    kept = sum(n for (segment, cluster), n in shared.items() if matches.get(cluster) == segment)
    return adjusted_rand_score(segments, clusters), kept / len(segments)


if __name__ == "__main__":
    sys.exit(main())
