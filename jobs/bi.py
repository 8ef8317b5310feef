"""A server for BI tools that speak JDBC or ODBC: Spark's Thrift server over the published tables.

It keeps nothing: the tables' names are in its memory and given anew at each start, and a query reads a table's newest
version. It asks for no password, so whoever reaches its port reads and writes the lake as the one who started it: on
this machine only, unless told otherwise.
"""

import ctypes
import signal
import socket
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs import flow, settings
from jobs.errors import UserError
from jobs.install import places
from jobs.lake import Lake, quoted

START_SECONDS = 300  # 8 on two idle cores
END_SECONDS = 20


def serve(arguments: Namespace) -> None:
    """Serve the marts until Ctrl-C or SIGTERM. Raises UserError for a lake without marts and a port that is taken."""
    lake = Lake(None, settings.load().lake)
    names = [f"{layer}.{table}" for layer in ("marts", "quality") for table in (flow.TABLES | flow.QUALITY)[layer]]
    tables = [name for name in names if lake.exists(name)]
    if "marts.refreshes" not in tables:
        raise UserError(f"bi: nothing was published in {lake.root} yet; run first: make refresh, or name another lake with LAKE=")
    host, port = arguments.host, arguments.port
    _refuse_taken(host, port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="shoal_bi_") as folder:
        log = Path(folder) / "log"
        try:
            with _server(host, port, log) as process:
                _name(lake, tables, host, port)
                print(f"bi: jdbc:hive2://{host}:{port}/marts (Ctrl-C ends it; its log is {log})", flush=True)
                raise _ended(process.wait(), log)
        except KeyboardInterrupt:
            print("bi: ended", flush=True)


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that has just ended is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"bi: port {port} cannot be used ({error.strerror}); choose another: make bi PORT=10001") from None


@contextmanager
def _server(host: str, port: int, log: Path) -> Iterator[subprocess.Popen]:
    """The server's process once it answers; ended with the block, and with this process however that ends."""
    spark, folder = places().spark, log.parent
    (folder / "local").mkdir()
    settings_of_spark = {
        "spark.local.dir": folder,
        "spark.sql.warehouse.dir": folder / "warehouse",
        "spark.hadoop.javax.jdo.option.ConnectionURL": "jdbc:derby:memory:names;create=true",
        "spark.databricks.delta.catalog.update.enabled": "true",  # tools ask the catalogue for a table's columns
    }
    settings_of_hive = {
        "hive.server2.thrift.bind.host": host,
        "hive.server2.thrift.port": port,
        "hive.exec.scratchdir": folder / "scratch",
        "hive.exec.local.scratchdir": folder / "local",
        "hive.downloaded.resources.dir": folder / "resources",
        "hive.server2.logging.operation.log.location": folder / "operations",
    }
    command = [str(spark / "bin" / "spark-submit"), "--master", "local[2]", "--name", "shoal bi"]
    command += ["--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"]
    command += [part for key, value in settings_of_spark.items() for part in ("--conf", f"{key}={value}")]
    command += ["spark-internal", *(part for key, value in settings_of_hive.items() for part in ("--hiveconf", f"{key}={value}"))]
    with log.open("w") as out:
        # in a session of its own, for Ctrl-C would reach it too; Derby writes where it is started
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(host, port):
            if process.poll() is not None or time.monotonic() > end:
                raise _ended(process.returncode, log)
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _name(lake: Lake, tables: list[str], host: str, port: int) -> None:
    """Give the tables of the lake their names on the server."""
    from impala.dbapi import connect

    with connect(_reached(host), port, auth_mechanism="PLAIN", user="shoal") as client, client.cursor() as cursor:
        for layer in dict.fromkeys(name.split(".")[0] for name in tables):
            cursor.execute(f"CREATE DATABASE {layer}")
        for name in tables:
            cursor.execute(f"CREATE TABLE {name} USING delta LOCATION {quoted(lake.path(name))}")


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_reached(host), port)) == 0


def _reached(host: str) -> str:
    return "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104


def _ended(code: int | None, log: Path) -> UserError:
    how = f"did not answer within {START_SECONDS} s" if code is None else f"ended with exit code {code}"
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
    return UserError(f"bi: the server {how}: {last[0]}")


def _die_with_parent() -> None:
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
