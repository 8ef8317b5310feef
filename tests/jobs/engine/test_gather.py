"""Rows of a day from several buckets become one file; a day of very many rows becomes several, each of a bounded size."""

from datetime import date

import pyarrow as pa

from jobs.engine import local, spark
from jobs.storage.table import Table

TABLE = Table("bronze.rows", "Rows.", "n BIGINT, day DATE NOT NULL", "day")
DAYS = [date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 3)]


def test_a_day_is_one_file_unless_it_has_very_many_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "ROWS_PER_FILE", 20)
    rows_per_day = dict(zip(DAYS, (10, 2, 3), strict=True))  # in each of five buckets
    buckets = []
    for bucket in range(5):
        days = [day for day in DAYS for _ in range(rows_per_day[day])]
        rows = pa.table({"n": range(len(days)), "day": days}, TABLE.arrow_schema)
        buckets.append(local._write_days(str(tmp_path / f"{bucket}"), rows))
    batches = [[(bucket.path, bucket.batches[day]) for bucket in buckets] for day in DAYS]
    files = local._gather_days(local._Gather(str(tmp_path / "lake"), TABLE, batches))
    assert [(file.partition["day"][-1], file.n_rows) for file in files] == [("1", 20), ("1", 20), ("1", 10), ("2", 10), ("3", 15)]


def test_a_day_with_very_many_rows_is_written_in_portions_on_spark_too(monkeypatch):
    monkeypatch.setattr(spark, "ROWS_PER_FILE", 20)
    blobs = [{"content": spark._to_ipc(pa.table({"n": range(n)}))} for n in (10, 10, 25, 5)]
    assert [rows.num_rows for rows in spark._read_portions(blobs)] == [20, 25, 5]
