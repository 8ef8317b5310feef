"""bronze.files: what was landed, and how many rows of which day."""

from datetime import date

from jobs.bronze import files


def test_the_register_counts_rows_by_day_and_notices_a_changed_mapping(vendor):
    vendor.file("people.csv", "id,since", "anna,2024-02-01", "bert,2024-02-01", "carl,2024-02-03")
    vendor.land("customers")
    days = files.days(vendor.lake, ["bronze.customers"])
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
    assert files.days(vendor.lake, ["bronze.customers"])[date(2024, 2, 1)]["files"] != before
    assert vendor.lake.read("bronze.customers").count() == 3
