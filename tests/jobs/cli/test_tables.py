"""`shoal tables` over a lake."""

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.__main__ import main


def test_a_table_has_its_version_rows_and_newest_day(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SHOAL_LAKE", str(tmp_path))
    rows = pa.table({"day": pa.array([19000, 19001], pa.date32()), "n": [1, 2]})
    write_deltalake(tmp_path / "clean" / "orders", rows, partition_by=["day"])
    (tmp_path / "clean" / "events" / "_delta_log").mkdir(parents=True)  # killed before its first commit
    assert main(["tables"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[2:]] == [["clean.orders", "0", "2", "2022-01-09"]]


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_lake_without_tables_is_named(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.setenv("SHOAL_LAKE", str(tmp_path / folder))
    assert main(["tables"]) == 2
    assert f"error: tables: no table in {tmp_path / folder}" in capsys.readouterr().out.replace(f"{tmp_path}/;", f"{tmp_path};")
