"""The one place where a SparkSession is made."""

import logging
import os
import sys

from pyspark.sql import SparkSession

# Needed wherever Delta tables are read or written, whatever the Spark home's own defaults say.
_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
# What our results rest on; set on a remote server's session too.
_MEANING = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
}


def open_session(name: str) -> SparkSession:
    """A session for one step: in process or submitted, or a thin client of the Spark Connect server SHOAL_REMOTE names."""
    for name_of_log in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(name_of_log).disabled = True  # pyspark logs as JSON what it raises too
    remote = os.environ.get("SHOAL_REMOTE")
    if remote:
        session = SparkSession.builder.remote(remote).getOrCreate()
        for key, value in _MEANING.items():
            session.conf.set(key, value)
        return session
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    for key, value in {**_DELTA, **_MEANING}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()
