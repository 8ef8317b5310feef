"""Where a Spark session is opened, and where Spark is."""

import atexit
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pyspark
from pyspark.sql import SparkSession

from jobs import watchdog
from jobs.storage.scratch import Scratch

# Delta tables need these, whatever the defaults of the Spark home say.
_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
# Nobody else on the machine or the network may connect, or read what is spilled. A cluster has settings of its own.
_ON_THIS_MACHINE = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.authenticate": "true",
}
# Results depend on these; they are set on the session of a remote server too.
_SEMANTICS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
}


def open_session(name: str, is_short: bool = False) -> SparkSession:
    """Open a session for one step: in process, submitted, or a client of the Spark Connect server that SHOAL_REMOTE names.

    In process, a JVM for short work compiles quickly instead of well.
    """
    for logger in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(logger).disabled = True  # pyspark also raises what it logs there as JSON
    remote = os.environ.get("SHOAL_REMOTE")
    if remote:
        session = SparkSession.builder.remote(remote).getOrCreate()
        for key, value in _SEMANTICS.items():
            session.conf.set(key, value)
        _note_answers(session)
        return session
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # then the JVM has started already
    if is_short and not is_submitted:
        _compile_quickly()
    own = {} if is_submitted else {**_ON_THIS_MACHINE, "spark.local.dir": _make_scratch()}
    for key, value in {**_DELTA, **_SEMANTICS, **own}.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    if not session.conf.get("spark.master").startswith("local"):
        watchdog.work_elsewhere()
    return session


def _compile_quickly() -> None:
    """Have the JVM that is started next use its quick compiler alone, unless its options say something about that."""
    options = os.environ.get("SPARK_SUBMIT_OPTS", "")
    if "Tiered" not in options:
        os.environ["SPARK_SUBMIT_OPTS"] = f"{options} -XX:TieredStopAtLevel=1".strip()


def _make_scratch() -> str:
    """Return a new folder for what Spark spills, which only this user can read; it is removed when this process ends."""
    scratch = Scratch()
    atexit.register(scratch.remove)
    return scratch.path


def _note_answers(session: SparkSession) -> None:
    """Count what a Spark Connect server answers as progress: that tasks begin or end, and that it still works.

    A server ends its answer after two minutes (spark.connect.execute.reattachable.senderMaxStreamDuration) and the client asks
    for the rest of it. A client that waits for itself asks no more.
    """
    stub = session.client._stub
    reattach = stub.ReattachExecute

    def note_and_reattach(*arguments: Any, **options: Any) -> Any:
        watchdog.note_progress()
        return reattach(*arguments, **options)

    stub.ReattachExecute = note_and_reattach
    session.registerProgressHandler(watchdog.note_progress)


def spark_home() -> Path:
    """Return the Spark home of this environment: its pyspark package, which set-up completes."""
    return Path(pyspark.__file__).parent
