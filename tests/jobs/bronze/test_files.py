"""bronze.files: which files were landed, with how many rows of which day."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from jobs.bronze import files, pipeline
from jobs.config.source_mapping import load_source
from jobs.errors import UserError


def test_the_register_counts_rows_by_day_and_notices_a_changed_mapping(vendor):
    vendor.file("people.csv", "id,since", "anna,2024-02-01", "bert,2024-02-01", "carl,2024-02-03")
    vendor.land("customers")
    days = files.read_days(vendor.lake, ["bronze.customers"])
    assert {day: entry["n_rows"] for day, entry in days.items()} == {
        date(2024, 2, 1): {"bronze.customers": 2},
        date(2024, 2, 3): {"bronze.customers": 1},
    }
    before = days[date(2024, 2, 1)]["files"]
    vendor.map(
        (vendor.folder / "vendor.toml")
        .read_text()
        .replace('registered_at = "since"', 'registered_at = "since"\ncountry = "since"')
    )
    vendor.land("customers")
    assert files.read_days(vendor.lake, ["bronze.customers"])[date(2024, 2, 1)]["files"] != before
    assert vendor.lake.count_rows("bronze.customers") == 3
    (row,) = vendor.lake.read_small_table(files.TABLE)
    assert row["columns"] == ["id", "since"]


def test_a_row_that_was_read_but_not_written_stops_the_landing(vendor):
    vendor.file("people.csv", "id,since", "anna,2024-02-01")
    source, landed_at = load_source(vendor.settings.source), datetime(2024, 3, 20, tzinfo=UTC)
    ((table, landed),) = pipeline.land_tables(
        vendor.lake, vendor.settings, source, ["customers"], date(2024, 3, 2), landed_at
    ).items()
    assert landed.n_read == 1
    with pytest.raises(UserError, match=r"bronze.customers, day 2024-02-01: 2 rows in, \+1 unaccounted for"):
        files.register_files(vendor.lake, source.name, {table: replace(landed, n_read=2)}, landed_at)
    assert files.read_days(vendor.lake, ["bronze.customers"]) == {}, "not registered, so that it is landed again"
