"""How a layer has its kernels run: it names rows by key, a kernel, and what becomes of each output.

A runner reads the rows into buckets by a hash of their key, runs the kernel on each bucket, and writes the files of its tables.
Nothing is in a table until the layer commits the files.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from jobs.config.settings import Settings
from jobs.engine.tasks import Call, Input, Kernel, Output, Result
from jobs.storage.lake import Lake

ROWS_PER_BUCKET = 500_000


class Runner(Protocol):
    """Carries kernels to rows."""

    name: str

    def read(self, inputs: Mapping[str, Input], n_buckets: int) -> dict[str, Any]:
        """Return the rows of each input in buckets by their key."""

    def run(self, kernel: Kernel, inputs: Mapping[str, Any], outputs: Mapping[str, Output]) -> Result:
        """Run a kernel on each bucket of `inputs`, which read and earlier results gave, and treat its outputs as named."""

    def run_calls(self, calls: Sequence[Call], outputs: Mapping[str, Output]) -> Result:
        """Run each call in a task of its own, and collect or write its outputs as named."""

    def close(self) -> None:
        """End the workers and remove what they left."""


def count_buckets(n_rows: int, at_once: int = 1) -> int:
    """Return the number of buckets in which `n_rows` rows fit into memory, a bucket for each worker at a time.

    The rows of so many buckets `at_once` are left in one, for this process: it begins sooner than workers that are to be started.
    """
    return 1 if n_rows <= at_once * ROWS_PER_BUCKET else -(-n_rows // ROWS_PER_BUCKET)


@contextmanager
def open_runner(lake: Lake, settings: Settings, n_rows: int) -> Iterator[Runner]:
    """Open the runner for a step of so many rows, by the setting `engine`, and end it with the block."""
    if choose_engine(settings, n_rows) == "spark":
        from jobs.engine.spark import SparkRunner

        runner: Runner = SparkRunner(lake.spark, lake.root)
    else:
        from jobs.engine.local import LocalRunner

        runner = LocalRunner(lake.root)
    try:
        yield runner
    finally:
        runner.close()


def choose_engine(settings: Settings, n_rows: int = 0) -> str:
    """Return "spark" or "local".

    `auto` is Spark where this process was submitted to it or is the client of a server, and for more than `local_max_rows`.
    """
    if settings.engine != "auto":
        return settings.engine
    is_on_spark = "PYSPARK_GATEWAY_PORT" in os.environ or "SHOAL_REMOTE" in os.environ
    return "spark" if is_on_spark or n_rows > settings.local_max_rows else "local"
