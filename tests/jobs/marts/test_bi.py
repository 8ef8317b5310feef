"""The marts as BI reads them: through delta-rs, DuckDB and the Thrift server."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from impala.dbapi import connect

from jobs import flow
from jobs.marts import (
    campaign_uplift,
    customer_segments,
    effects,
    refreshes,
    segment_changes,
    segment_demand,
    segment_moves,
    segment_profiles,
)
from jobs.storage.lake import Lake
from tests.jobs.conftest import LAST

ROOT = Path(__file__).resolve().parents[3]

ARROW = {
    "STRING": pa.string(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "BOOLEAN": pa.bool_(),
    "DECIMAL(18,4)": pa.decimal128(18, 4),
    "ARRAY<STRING>": pa.list_(pa.string()),
}
CONTRACT = [
    ("customer_id", "STRING"), ("segment_id", "INT"), ("segment_name", "STRING"), ("since_day", "DATE"),
    ("previous_segment_id", "INT"), ("as_of_day", "DATE"), ("recency_days", "BIGINT"), ("orders_365d", "BIGINT"),
    ("net_365d", "DECIMAL(18,4)"), ("confidence", "DOUBLE"), ("reasons", "ARRAY<STRING>"), ("model_version", "STRING"),
    ("runner_up_id", "INT"), ("runner_up_name", "STRING"), ("reasons_hold", "BOOLEAN"), ("outlier_reason", "STRING"),
    ("expected_net_365d", "DECIMAL(18,4)"), ("p_alive", "DOUBLE"), ("churn_90d", "DOUBLE"),
    ("holdout", "BOOLEAN"), ("holdouts", "ARRAY<STRING>"),
]  # fmt: skip


@pytest.fixture
def table(shop):
    return DeltaTable(shop.lake.path("marts.customer_segments"))


def test_every_published_table_has_reader_version_1(shop):
    for module in (customer_segments, segment_profiles, segment_changes, segment_moves, segment_demand, effects, campaign_uplift):
        protocol = DeltaTable(shop.lake.path(module.TABLE.name)).protocol()
        assert protocol.min_reader_version == 1
        assert protocol.min_writer_version <= 4


def test_columns_types_and_comments_equal_the_contract(table):
    fields = pa.schema(table.schema().to_arrow())
    kinds = [(f.name, pa.list_(f.type.value_type) if pa.types.is_list(f.type) else f.type) for f in fields]
    assert kinds == [(name, ARROW[kind]) for name, kind in CONTRACT]
    comments = {f.name: f.metadata["comment"] for f in table.schema().fields}
    assert comments == dict(re.findall(r"^\s+(\w+) .* COMMENT '(.*)'", customer_segments.SCHEMA, re.MULTILINE))
    assert table.metadata().description == customer_segments.TABLE.about


def test_duckdb_reads_the_rows_that_delta_rs_reads(table):
    rows = table.to_pyarrow_dataset().to_table().to_pylist()
    assert [row["customer_id"] for row in rows] == sorted(row["customer_id"] for row in rows)

    connection = duckdb.connect()
    connection.register("customer_segments", table.to_pyarrow_dataset())
    totals_by_duckdb = connection.execute(
        "SELECT segment_name, count(*), sum(net_365d) FROM customer_segments GROUP BY ALL ORDER BY 1"
    ).fetchall()
    totals = {}
    for row in rows:
        n, net = totals.get(row["segment_name"], (0, 0))
        totals[row["segment_name"]] = (n + 1, net + row["net_365d"])
    assert totals_by_duckdb == [(name, *totals[name]) for name in sorted(totals)]


def test_the_latest_day_is_one_file_of_each_table(shop, table):
    assert len(table.file_uris()) == 1
    for module in (segment_profiles, segment_moves):
        of_day = DeltaTable(shop.lake.path(module.TABLE.name)).file_uris(file_pruning_predicate=f"day = '{LAST}'")
        assert len(of_day) == 1


def test_the_log_has_the_bounds_of_the_columns_that_reports_filter_on(table):
    (file,) = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    assert file["min.as_of_day"] == file["max.as_of_day"] == LAST
    assert file["min.segment_id"] == 0
    for column in ("customer_id", "segment_name", "since_day", "recency_days", "orders_365d", "net_365d", "confidence"):
        assert file[f"min.{column}"] < file[f"max.{column}"]


def test_every_published_table_has_its_constraints(shop):
    for module in (customer_segments, segment_profiles, segment_moves, segment_demand):
        kept = DeltaTable(shop.lake.path(module.TABLE.name)).metadata().configuration
        assert module.TABLE.checks
        assert {name: kept[f"delta.constraints.{name}"] for name in module.TABLE.checks} == module.TABLE.checks


class Served:
    """A copy of the shop's lake, `make bi` over it, and a client of that."""

    def __init__(self, shop, folder: Path) -> None:
        self.folder, self.lake = folder, Lake(None, shutil.copytree(shop.lake.root, folder / "lake"))
        refreshes.run(self.lake, shop.settings, LAST, "run", *[datetime(2024, 3, 5, tzinfo=UTC)] * 2)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.environment = os.environ | {"TMPDIR": str(folder)}
        venv = Path(sys.prefix).parent  # set up already
        command = ["make", "bi", f"LAKE={self.lake.root}", f"PORT={self.port}", f"VENV={venv}"]
        command += ["-o", f"{venv}/.done/spark", "-o", "spark-home"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=self.environment)
        self.first_line = self.process.stdout.readline()
        self.client = connect("127.0.0.1", self.port, auth_mechanism="PLAIN")
        self.cursor = self.client.cursor()

    def rows(self, query: str) -> list[dict]:
        """Return the rows of a query; the protocol sends nested values as JSON."""
        self.cursor.execute(query)
        names = [column[0] for column in self.cursor.description]
        rows = [[json.loads(v) if isinstance(v, bytes) else v for v in row] for row in self.cursor.fetchall()]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def stop(self) -> tuple[int, str]:
        self.cursor.close()
        self.client.close()
        self.process.terminate()
        out, _ = self.process.communicate(timeout=600)
        return self.process.returncode, out


@pytest.fixture(scope="module")
def served(shop, tmp_path_factory):
    server = Served(shop, tmp_path_factory.mktemp("served"))
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.mark.parametrize("module", [customer_segments, segment_profiles, segment_moves])
def test_the_thrift_server_gives_the_rows_that_delta_rs_and_duckdb_give(served, module):
    dataset = DeltaTable(served.lake.path(module.TABLE.name)).to_pyarrow_dataset()
    by_duckdb = duckdb.from_arrow(dataset).to_arrow_table().to_pylist()
    by_delta_rs = dataset.to_table().to_pylist()
    by_thrift = served.rows(f"TABLE {module.TABLE.name}")
    assert by_duckdb
    assert sorted(map(str, by_thrift)) == sorted(map(str, by_delta_rs)) == sorted(map(str, by_duckdb))


def test_the_thrift_server_lists_tables_columns_and_comments(served):
    assert {row["tableName"] for row in served.rows("SHOW TABLES IN marts")} == set(flow.TABLES["marts"])
    listed = served.cursor.get_table_schema("customer_segments", "marts")
    assert [name for name, *_ in listed] == [name for name, _ in CONTRACT]
    described = {row["col_name"]: row["comment"] for row in served.rows("DESCRIBE marts.customer_segments")}
    assert described["segment_id"] == "Segment; keeps its meaning over time; 0: dormant"


def test_the_thrift_server_reads_the_newest_version_and_any_that_the_manifest_names(served):
    (manifest,) = served.rows("SELECT * FROM marts.refreshes WHERE run_id = 'run'")
    version = json.loads(manifest["table_versions"])["marts.segment_moves"]
    count, path = "SELECT count(*) AS n FROM marts.segment_moves", served.lake.path("marts.segment_moves")
    before = DeltaTable(path).to_pyarrow_table()
    assert served.rows(count) == [{"n": before.num_rows}]
    write_deltalake(path, before.slice(1), mode="overwrite")
    assert served.rows(count) == [{"n": before.num_rows - 1}]
    assert served.rows(f"{count} VERSION AS OF {version}") == [{"n": before.num_rows}]


def test_a_port_in_use_and_a_lake_without_marts_give_a_one_line_error(served, tmp_path):
    def read_refusal(**changed: str) -> str:
        environment = served.environment | {"SHOAL_LAKE": served.lake.root} | changed
        command = [sys.executable, "-m", "jobs", "bi", "--port", str(served.port)]
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        assert result.returncode == 2
        return result.stdout + result.stderr

    assert read_refusal() == (
        f"error: bi: port {served.port} cannot be used (Address already in use); choose another: make bi PORT=10001\n"
    )
    assert read_refusal(SHOAL_LAKE=str(tmp_path)) == (
        f"error: bi: nothing was published in {tmp_path} yet; run first: make refresh, or name another lake with LAKE=\n"
    )


def test_only_this_machine_can_reach_the_thrift_server_and_nothing_is_left_when_it_ends(served):
    assert served.first_line.startswith(f"bi: jdbc:hive2://127.0.0.1:{served.port}/marts (Ctrl-C ends it; its log is ")
    mark = f"hive.server2.thrift.port={served.port}".encode()

    def list_processes() -> list[str]:
        ids = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # the process has just ended
                if mark in (process / "cmdline").read_bytes():
                    ids.append(process.name)
        return ids

    bound = [row.split()[1] for kind in ("tcp", "tcp6") for row in Path("/proc/net", kind).read_text().splitlines()]
    loopback = f"0100007F:{served.port:04X}"  # as the kernel lists it
    assert {address[-13:] for address in bound if address.endswith(loopback[-5:])} == {loopback}
    assert list_processes()
    assert served.stop() == (-signal.SIGTERM, "bi: ended\n")
    assert not list_processes()
    assert not list(served.folder.glob("shoal_bi_*"))
