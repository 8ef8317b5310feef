"""Fitted models of a Spark Connect client are released where no other call runs."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_garbage_collection_inside_a_call_finds_no_model_to_release():
    variables = {
        "SHOAL_REMOTE": "local[1]",  # a real server, in a JVM of the test's own
        "SPARK_TESTING": "1",  # on a free port
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_SUBMIT_ARGS": "--conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=1 "
        "--conf spark.connect.execute.reattachable.senderMaxStreamDuration=1s pyspark-shell",
    }
    client = subprocess.run(
        [sys.executable, "-m", "tests.jobs.engine.connect_fits"],
        cwd=ROOT,
        env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=240,
        check=True,
    )
    assert [line for line in client.stdout.splitlines() if not line.startswith("fit ")] == [
        "signs of a task that prints nothing True",
        "centres (3, 2) 0 []",
        "after an error 0 []",
    ]
