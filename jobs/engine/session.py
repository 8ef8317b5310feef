"""Where a Spark session is opened, and where Spark is."""

import logging
import os
import sys
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

# Delta tables need these, whatever the defaults of the Spark home say.
_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
# Results depend on these; they are set on the session of a remote server too.
_SEMANTICS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
}


def open_session(name: str) -> SparkSession:
    """Open a session for one step: in process, submitted, or a client of the Spark Connect server that SHOAL_REMOTE names."""
    for logger in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(logger).disabled = True  # pyspark also raises what it logs there as JSON
    remote = os.environ.get("SHOAL_REMOTE")
    if remote:
        session = SparkSession.builder.remote(remote).getOrCreate()
        for key, value in _SEMANTICS.items():
            session.conf.set(key, value)
        return session
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    for key, value in {**_DELTA, **_SEMANTICS}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def spark_home() -> Path:
    """Return the Spark home of this environment: its pyspark package, which set-up completes."""
    return Path(pyspark.__file__).parent
