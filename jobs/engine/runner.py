"""How a layer has its kernels run: it names rows by key, a kernel, and what becomes of each output.

A runner reads the rows into buckets by a hash of their key, runs the kernel on each bucket, and writes the files of its tables.
Nothing is in a table until the layer commits the files.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow as pa

from jobs.config.settings import Settings
from jobs.engine.tasks import Input, Kernel, Output
from jobs.storage.commits import File
from jobs.storage.lake import Lake

ROWS_PER_BUCKET = 500_000


@dataclass
class Result:
    """What a kernel returned on all buckets: tables that were collected, outputs still in buckets, files of tables."""

    collected: dict[str, pa.Table] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    files: dict[str, list[File]] = field(default_factory=dict)


class Runner(Protocol):
    """Carries kernels to rows."""

    name: str

    def read(self, inputs: Mapping[str, Input], n_buckets: int) -> dict[str, Any]:
        """Return the rows of each input in buckets by their key."""

    def run(self, kernel: Kernel, inputs: Mapping[str, Any], outputs: Mapping[str, Output]) -> Result:
        """Run a kernel on each bucket of `inputs`, which read and earlier results gave, and treat its outputs as named."""

    def close(self) -> None:
        """End the workers and remove what they left."""


def count_buckets(n_rows: int) -> int:
    """Return the number of buckets in which `n_rows` rows fit into memory, a bucket for each worker at a time."""
    return max(1, -(-n_rows // ROWS_PER_BUCKET))


@contextmanager
def open_runner(lake: Lake, settings: Settings, n_rows: int) -> Iterator[Runner]:
    """Open the runner for a step of so many rows, by the setting `engine`, and end it with the block."""
    if choose_engine(lake, settings, n_rows) == "spark":
        from jobs.engine.spark import SparkRunner

        runner: Runner = SparkRunner(lake.spark, lake.root)
    else:
        from jobs.engine.local import LocalRunner

        runner = LocalRunner(lake.root)
    try:
        yield runner
    finally:
        runner.close()


def choose_engine(lake: Lake, settings: Settings, n_rows: int) -> str:
    """Return "spark" or "local": with `auto`, Spark where the session is a cluster's or the rows are more than `local_max_rows`."""
    if settings.engine != "auto":
        return settings.engine
    return "spark" if _is_on_a_cluster(lake) or n_rows > settings.local_max_rows else "local"


def _is_on_a_cluster(lake: Lake) -> bool:
    if remote := os.environ.get("SHOAL_REMOTE"):
        return urlsplit(remote).hostname not in ("localhost", "127.0.0.1")
    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if not (lake.has_session or is_submitted) or lake.spark is None:
        return False  # a session that is still to be opened would be of this machine
    return not lake.spark.conf.get("spark.master").startswith("local")
