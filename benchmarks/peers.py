"""The features that plain Spark (peer_spark.py) and DuckDB (peer_duckdb.py) compute from Shoal's clean tables.

Both compute the sums and columns of peer_features.py and write one Parquet file:
`python -m benchmarks.peers spark|duckdb LAKE DAY OUT`.
"""

import sys
from datetime import date
from pathlib import Path


def main(argv: list[str]) -> int:
    """Compute the features with one engine; the arguments are spark|duckdb LAKE DAY OUT."""
    engine, lake, day, out = argv
    if engine == "spark":
        from benchmarks import peer_spark as peer
    else:
        from benchmarks import peer_duckdb as peer
    peer.compute_features(lake, date.fromisoformat(day), Path(out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
