"""One Spark session for all tests, small and quiet, and a lake of one test's own."""

import os
import sys
from pathlib import Path

import pytest

# Python workers start with the interpreter and find the project as the tests do, wherever pytest was called from.
os.environ["PYSPARK_PYTHON"] = sys.executable
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).resolve().parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)


# A test's few rows take less time than compiling code for them.
INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """local[2], UTC, one shuffle partition, interpreted, no UI, one thread to collect garbage."""
    from jobs.engine.session import open_session

    settings = {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC",  # other sessions want the cores too
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
        **INTERPRETED,
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    os.environ["PYSPARK_SUBMIT_ARGS"] = " ".join(f"--conf {k}={v}" for k, v in settings.items()) + " pyspark-shell"
    session = open_session("tests")
    yield session
    session.stop()


@pytest.fixture
def lake(tmp_path):
    """An empty lake, without Spark."""
    from jobs.storage.lake import Lake  # the Airflow environment, which also loads this file, has no Delta

    return Lake(None, str(tmp_path / "lake"))
