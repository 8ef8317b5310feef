"""`shoal bi`: Spark's Thrift server over the published tables, for BI tools that speak JDBC or ODBC.

The server stores nothing: the names of the tables are in its memory and are set at each start, and a query reads a
table's newest version. It asks for no password: whoever reaches its port reads and writes the lake with the rights of
the user who started it. It therefore listens on this machine only, unless `host` says otherwise.
"""

import ctypes
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs import flow
from jobs.engine.session import spark_home
from jobs.errors import UserError
from jobs.storage.delta import is_written, table_path
from jobs.storage.table import quote_sql

START_SECONDS = 300  # 8 on two idle cores
END_SECONDS = 20


def serve_marts(lake: str, host: str, port: int) -> None:
    """Serve the marts until Ctrl-C or SIGTERM. Raises UserError for a lake without marts and a port that is taken."""
    names = [f"{layer}.{table}" for layer in ("marts", "quality") for table in flow.TABLES[layer]]
    paths = {name: table_path(lake, name) for name in names if is_written(table_path(lake, name))}
    if "marts.refreshes" not in paths:
        raise UserError(f"bi: nothing was published in {lake} yet; run first: make refresh, or name another lake with LAKE=")
    _require_free_port(host, port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="shoal_bi_") as folder:
        log = Path(folder) / "log"
        try:
            with _start_server(host, port, log) as process:
                _create_tables(paths, host, port)
                print(f"bi: jdbc:hive2://{host}:{port}/marts (Ctrl-C ends it; its log is {log})", flush=True)
                raise _exit_error(process.wait(), log)
        except KeyboardInterrupt:
            print("bi: ended", flush=True)


def _require_free_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of a process that has just ended is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"bi: port {port} cannot be used ({error.strerror}); choose another: make bi PORT=10001") from None


@contextmanager
def _start_server(host: str, port: int, log: Path) -> Iterator[subprocess.Popen]:
    """Give the server's process once it answers; it ends with the block, and with this process however that ends."""
    (log.parent / "local").mkdir()
    with log.open("w") as output:
        # A session of its own, because Ctrl-C would reach it too. Derby writes into the working directory.
        process = subprocess.Popen(
            _server_command(host, port, log.parent),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(host, port):
            if process.poll() is not None or time.monotonic() > end:
                raise _exit_error(process.returncode, log)
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _server_command(host: str, port: int, folder: Path) -> list[str]:
    spark_settings = {
        "spark.local.dir": folder,
        "spark.sql.warehouse.dir": folder / "warehouse",
        "spark.hadoop.javax.jdo.option.ConnectionURL": "jdbc:derby:memory:names;create=true",
        "spark.databricks.delta.catalog.update.enabled": "true",  # tools ask the catalogue for a table's columns
    }
    hive_settings = {
        "hive.server2.thrift.bind.host": host,
        "hive.server2.thrift.port": port,
        "hive.exec.scratchdir": folder / "scratch",
        "hive.exec.local.scratchdir": folder / "local",
        "hive.downloaded.resources.dir": folder / "resources",
        "hive.server2.logging.operation.log.location": folder / "operations",
    }
    command = [str(spark_home() / "bin" / "spark-submit"), "--master", "local[2]", "--name", "shoal bi"]
    command += ["--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"]
    command += [part for key, value in spark_settings.items() for part in ("--conf", f"{key}={value}")]
    return [*command, "spark-internal", *(p for key, value in hive_settings.items() for p in ("--hiveconf", f"{key}={value}"))]


def _create_tables(paths: dict[str, str], host: str, port: int) -> None:
    """Create the tables, by name and path, in the server's catalogue."""
    from impala.dbapi import connect

    with connect(_client_host(host), port, auth_mechanism="PLAIN", user="shoal") as client, client.cursor() as cursor:
        for layer in dict.fromkeys(name.split(".")[0] for name in paths):
            cursor.execute(f"CREATE DATABASE {layer}")
        for name, path in paths.items():
            cursor.execute(f"CREATE TABLE {name} USING delta LOCATION {quote_sql(path)}")


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_client_host(host), port)) == 0


def _client_host(host: str) -> str:
    return "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104


def _exit_error(code: int | None, log: Path) -> UserError:
    reason = f"did not answer within {START_SECONDS} s" if code is None else f"ended with exit code {code}"
    lines = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
    return UserError(f"bi: the server {reason}: {lines[0]}")


def _die_with_parent() -> None:
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
