"""Landing a file again replaces its rows on every day, and no others; large files are mapped and placed in parts."""

from dataclasses import replace
from datetime import date
from functools import partial

import pyarrow as pa
import pytest

from jobs.bronze import _landing, _mapping, _new_files, _rows, events, files, orders, pipeline
from jobs.bronze.files import LandedFiles
from jobs.bronze.formats import content
from jobs.config.source_mapping import load_source
from jobs.engine.tasks import Produced, split_by_key
from tests.jobs.bronze.conftest import LANDED_AT, MAPPING

HEAD = "time,device,what,mail,name"


def clicks(*times):
    return (HEAD, *(f"{time},{n},view,," for n, time in enumerate(times)))


def test_a_file_that_changes_leaves_the_days_it_had_and_other_files_of_these_days_stay(vendor):
    vendor.file("clicks-2024-03-02.csv", *clicks("2024-03-01 10:00:00", "2024-03-02 10:00:00"))
    vendor.file("clicks-2024-03-01.csv", *clicks("2024-03-01 11:00:00"))
    vendor.land("events")
    vendor.file("clicks-2024-03-02.csv", *clicks("2024-02-29 10:00:00"))
    vendor.land("events")
    assert vendor.rows("events", "day", "_file", "_row") == [
        ("2024-02-29", "clicks-2024-03-02.csv", 1), ("2024-03-01", "clicks-2024-03-01.csv", 1),
    ]  # fmt: skip
    accounts = vendor.lake.read_small_table("quality.reconciliation")
    assert sorted((str(a["day"])[5:], a["rows_in"], a["rows_out"]) for a in accounts) == [
        ("02-29", 1, 1), ("03-01", 1, 1), ("03-02", 0, 0),
    ]  # fmt: skip


def test_rows_of_a_landing_that_was_killed_before_it_registered_its_files_are_replaced(vendor, monkeypatch):
    vendor.file("clicks-2024-03-01.csv", *clicks("2024-03-01 10:00:00"))
    vendor.land("events")
    vendor.file("clicks-2024-03-02.csv", *clicks("2024-03-01 10:00:00", "2024-03-02 10:00:00"))
    with monkeypatch.context() as patch:
        patch.setattr(files, "register_files", lambda *_: None)
        vendor.land("events")
    vendor.file("clicks-2024-03-02.csv", *clicks("2024-02-29 10:00:00"))
    vendor.land("events")
    assert vendor.rows("events", "day", "_file") == [
        ("2024-02-29", "clicks-2024-03-02.csv"), ("2024-03-01", "clicks-2024-03-01.csv"),
    ]  # fmt: skip


def test_a_table_without_days_keeps_the_rows_of_other_files_and_sources(vendor):
    vendor.map(MAPPING.replace("people.csv", "people*.csv"))
    vendor.file("people-1.csv", "id,since", "anna,2024-02-01")
    vendor.file("people-2.csv", "id,since", "bert,2024-02-01")
    vendor.land("customers")
    vendor.map(MAPPING.replace("people.csv", "people*.csv").replace('"vendor"', '"second"'))
    vendor.file("people-2.csv", "id,since", "carl,2024-02-02")
    vendor.land("customers")
    assert vendor.rows("customers", "_source", "customer_id") == [
        ("second", "anna"), ("second", "carl"), ("vendor", "anna"), ("vendor", "bert"),
    ]  # fmt: skip


def test_stored_rows_keep_a_column_that_only_an_older_lake_has(vendor):
    vendor.map(MAPPING.replace('"orders.csv"', '"orders-*.csv"'))
    vendor.file("orders-1.csv", "id,time,sku,n,state", "R,2024-03-01 10:00:00,mug,2,paid")
    vendor.land("orders")
    older = replace(orders.TABLE, schema=f"{orders.TABLE.schema}, undoes_order_id STRING")
    rows = vendor.lake.read_arrow(orders.TABLE).append_column("undoes_order_id", pa.array(["1"]))
    vendor.lake.replace_rows(older, rows)
    vendor.file("orders-2.csv", "id,time,sku,n,state", "2,2024-03-01 10:00:00,mug,2,paid")
    vendor.land("orders")
    assert vendor.rows("orders", "order_id", "undoes_order_id") == [("2", None), ("R", "1")]


def test_the_first_landing_reads_no_stored_rows(vendor, monkeypatch):
    monkeypatch.setattr(_landing, "_replace_rows", None)
    vendor.file("clicks-2024-03-01.csv", *clicks("2024-03-01 10:00:00"))
    vendor.land("events")
    assert vendor.lake.count_rows("bronze.events") == 1


def new_files(vendor):
    """The files of the vendor that are to be landed in bronze.events."""
    source = load_source(vendor.settings.source)
    return _new_files.find_new_files(
        vendor.lake, vendor.settings, source, events.TABLE, "a key of the tests alone", date(2024, 3, 2), LANDED_AT
    )


def test_a_large_file_is_mapped_in_parts_with_the_same_rows_and_counts(vendor, monkeypatch):
    vendor.map(MAPPING.replace('drop = ["name"]', 'drop = ["name"]\nwhere = "device <> \'7\'"'))
    lines = list(clicks(*(f"2024-03-0{1 + n % 2} 10:00:00" for n in range(200))))
    lines[50] = "short,row"
    vendor.file("clicks-2024-03-02.csv", *lines)
    whole = pa.concat_tables(map_all(new_files(vendor)))
    monkeypatch.setattr(content, "BLOCK_BYTES", 512)
    monkeypatch.setattr(_mapping, "_BATCH_BYTES", 2048)
    parts = map_all(new_files(vendor))
    assert len(parts) > 5
    counts = [_rows.count_rows({"new": rows})["counts"].to_pylist() for rows in (whole, pa.concat_tables(parts))]
    assert counts[0] == counts[1]
    file = "clicks-2024-03-02.csv"
    assert [tuple(row.values()) for row in counts[0]] == [
        (file, date(2024, 3, 1), 100, 0, 0), (file, date(2024, 3, 2), 99, 1, 0), (file, None, 0, 0, 200),
    ]  # fmt: skip
    columns = [name for name in events.TABLE.columns if name != "_extra"]
    assert sorted_rows(whole, columns) == sorted_rows(pa.concat_tables(parts), columns)


def map_all(new):
    return [rows for part in new.mapped for rows in part.mapper.map_files(part.group)]


def sorted_rows(rows, columns):
    is_row = rows["_row"].is_valid()
    return rows.filter(is_row).select(columns).sort_by([("_file", "ascending"), ("_row", "ascending")]).to_pylist()


def test_rows_placed_in_buckets_are_those_placed_at_once(vendor):
    vendor.file("clicks-2024-03-01.csv", *clicks(*["2024-03-01 10:00:00"] * 30))
    vendor.file("clicks-2024-03-02.csv", *clicks(*["2024-03-01 10:00:00"] * 20))
    vendor.land("events")
    stored = vendor.lake.read_arrow(events.TABLE)
    vendor.file("clicks-2024-03-02.csv", *clicks(*["2024-03-01 11:00:00"] * 25))
    new = new_files(vendor)
    tables = {"new": pa.concat_tables(map_all(new)), "stored": stored}
    kernel = partial(_rows.place_rows, table=new.table, source="vendor", files=frozenset(new.files))
    whole = kernel(tables)
    inputs = {name: Produced(None, (), rows.schema, "_row") for name, rows in tables.items()}
    buckets = {name: split_by_key(inputs[name], rows, 3) for name, rows in tables.items()}
    parts = [kernel({name: buckets[name][n] for name in tables}) for n in range(3)]
    rows = pa.concat_tables([part["rows"] for part in parts])
    assert min(part["rows"].num_rows for part in parts) > 0
    assert whole["rows"].num_rows == 55
    columns = ["_file", "_row", "event_at", "visitor_id", "day"]
    assert sorted_rows(rows, columns) == sorted_rows(whole["rows"], columns)
    assert _rows.sum_counts(pa.concat_tables([part["counts"] for part in parts])) == whole["counts"]


def test_files_make_tasks_of_a_size_in_their_order(vendor, monkeypatch):
    for n in range(1, 6):
        vendor.file(f"clicks-2024-02-0{n}.csv", *clicks("2024-02-01 10:00:00"))
    new = new_files(vendor)
    monkeypatch.setattr(_landing, "_TASK_BYTES", 2 * max(new.text_bytes.values()))
    names = [[name[-5] for name in task.group.files] for task in _landing._list_tasks(new)]
    assert names == [["1", "2"], ["3", "4"], ["5"]]


@pytest.mark.parametrize("name", ["people.csv", "people.csv.gz"])
def test_the_size_of_texts_is_known_without_reading_them(vendor, name):
    lines = ["id,since", *(f"{n},2024-02-01" for n in range(5_000))]
    vendor.file(name, *lines)
    n_bytes = (vendor.folder / name).stat().st_size
    mapping = load_source(vendor.settings.source).mappings["customers"][0]
    estimate = _new_files._estimate_text_bytes(str(vendor.folder), name, n_bytes, mapping)
    n_text_bytes = len("\n".join(lines)) + 1
    assert n_text_bytes <= estimate <= 4 * n_text_bytes


def test_nothing_new_is_no_landing(vendor):
    vendor.file("people.csv", "id,since", "anna,2024-02-01")
    vendor.land("customers")
    source = load_source(vendor.settings.source)
    assert pipeline.land_tables(vendor.lake, vendor.settings, source, ["customers"], date(2024, 3, 2), LANDED_AT) == {}
    files.register_files(vendor.lake, source.name, {"customers": LandedFiles()}, LANDED_AT)
    assert vendor.lake.version("bronze.files") == 1
