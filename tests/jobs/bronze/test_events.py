"""bronze.events: files as received, each once, and nothing of a bad file."""

import gzip

import pytest

from jobs.bronze._personal import hash_personal
from jobs.errors import UserError
from tests.jobs.bronze.conftest import MAPPING

HEAD = "time,device,what,mail,name,colour"
TRUNCATED = gzip.compress("\n".join([HEAD, *(f"2024-03-02 10:00:00,{n},view,,," for n in range(9999))]).encode())[:9000]


def test_rows_keep_their_origin_and_lose_personal_text(vendor):
    vendor.file("clicks-2024-03-01.csv.gz", HEAD, "2024-03-01 10:00:00,v,VIEW, Anna@Example.org ,Anna,red", "soon,v,View,,,")
    vendor.land("events")
    columns = ("_row", "_file", "day", "event_at", "event_type", "email_key", "_extra")
    assert vendor.rows("events", *columns) == [
        (1, "clicks-2024-03-01.csv.gz", "2024-03-01", "2024-03-01 10:00:00", "view",
         hash_personal("anna@example.org", "email", "a key of the tests alone"), {"colour": "red"}),
        (2, "clicks-2024-03-01.csv.gz", "2024-03-01", "soon", "view", None, {}),
    ]  # fmt: skip
    written = b"".join(p.read_bytes() for p in (vendor.folder.parent / "lake").rglob("*") if p.is_file())
    assert b"nna@" not in written and b"Anna" not in written  # noqa: PT018


def test_a_row_with_the_wrong_number_of_fields_is_kept_as_malformed_without_its_text(vendor):
    vendor.file("clicks-2024-03-01.csv", HEAD, "2024-03-01 10:00:00,v,view,a@b.c", "2024-03-01 10:00:01,v,view,,,")
    vendor.land("events")
    malformed, good = vendor.rows("events", "_row", "event_at", "_extra")
    assert good == (2, "2024-03-01 10:00:01", {})
    assert malformed == (
        1,
        None,
        {"_malformed": hash_personal("2024-03-01 10:00:00,v,view,a@b.c", "text", "a key of the tests alone"), "_line": "2"},
    )


def test_a_file_is_landed_once_and_a_changed_one_replaces_its_rows(vendor, capsys):
    vendor.file("clicks-2024-03-01.csv", HEAD, "2024-03-01 10:00:00,v,view,,,")
    vendor.land("events")
    vendor.land("events")
    assert vendor.lake.version("bronze.events") == 1
    vendor.file("clicks-2024-03-01.csv", HEAD, "2024-03-01 11:00:00,v,view,,,", "2024-03-01 12:00:00,v,view,,,")
    vendor.file("clicks-2024-03-02.csv", HEAD + ",size", "2024-03-02 10:00:00,v,view,,,,XL")
    vendor.file("clicks-2024-03-03.csv", HEAD, "2024-03-03 10:00:00,v,view,,,")
    vendor.land("events", "2024-03-02")
    assert [row[0][5:13] for row in vendor.rows("events", "event_at")] == ["03-01 11", "03-01 12", "03-02 10"]
    accounts = vendor.lake.read_small_table("quality.reconciliation")
    assert sorted((str(a["day"])[5:], a["rows_in"], a["rows_out"], a["difference"]) for a in accounts) == [
        ("03-01", 2, 2, 0), ("03-02", 1, 1, 0),
    ]  # fmt: skip
    drift = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.startswith("drift")]
    assert drift == ["drift bronze.events new column 'size' in clicks-2024-03-02.csv: not stored; `keep` would store it"]


def test_late_and_future_rows_count_on_the_day_they_arrived(vendor):
    times = ["2024-02-01 10:00:00", "2024-03-09 10:00:00", "2024-02-29 10:00:00"]
    vendor.file("clicks-2024-03-02.csv", HEAD, *(f"{t},v,view,,," for t in times))
    vendor.land("events")
    assert vendor.rows("events", "_row", "day") == [(1, "2024-03-02"), (2, "2024-03-02"), (3, "2024-02-29")]


def test_an_event_counts_on_the_day_of_its_corrected_time(vendor):
    vendor.map(MAPPING.replace("event_type = ", 'sent_at = "sent"\nreceived_at = "came"\nevent_type = '))
    rows = ("2024-03-09 10:00:00,v,view,,,,2024-03-09 10:01:00,2024-03-02 10:01:00",
            "2024-03-01 22:00:00,v,view,,,,2024-03-01 22:00:00,2024-03-02 01:00:00",
            "2024-03-09 10:00:00,v,view,,,,,2024-03-01 23:59:00")  # fmt: skip
    vendor.file("clicks-2024-03-02.csv", f"{HEAD},sent,came", *rows)
    vendor.land("events")
    assert vendor.rows("events", "_row", "day") == [(1, "2024-03-02"), (2, "2024-03-02"), (3, "2024-03-01")]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("clicks-2024-03-02.csv.gz", TRUNCATED,
         r"file clicks-2024-03-02.csv.gz, line \d{3,}: the compressed file is truncated"),
        ("clicks-2024-03-02.csv", (HEAD + "\n2024-03-02 10:00:00,v,view,,,\n").encode() + b"x,\xff,,,,\n",
         "file clicks-2024-03-02.csv, line 3: not utf8 text"),
        ("clicks-2024-03-02.csv", b"time,device,mail,name\n",
         r"line 1: 1 of the 4 columns that the mapping names is missing \(what\); the file has 4 columns"),
        ("clicks-2024-03-02.csv", b"", "clicks-2024-03-02.csv: it is empty"),
        ("clicks-2024-03-02.csv.gz", b"no gzip at all", "clicks-2024-03-02.csv.gz, line 1"),
        ("clicks-march.csv", HEAD.encode(), "clicks-march.csv has no day"),
        ("clicks-2024-03-02.csv", (HEAD + ",_row").encode(), "column '_row' is a name of ours"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_and_nothing_of_it_is_landed(vendor, name, content, expected):
    vendor.file("clicks-2024-03-01.csv", HEAD, "2024-03-01 10:00:00,v,view,,,")
    (vendor.folder / name).write_bytes(content)
    with pytest.raises(UserError, match=expected) as raised:
        vendor.land("events")
    assert "\n" not in str(raised.value)
    assert not vendor.lake.exists("bronze.events") or vendor.rows("events", "_row") == []


def test_a_missing_folder_and_a_missing_secret_are_named(vendor, monkeypatch):
    with pytest.raises(UserError, match=r"no file clicks-\*.csv\*"):
        vendor.land("events")
    vendor.file("clicks-2024-03-01.csv", HEAD)
    monkeypatch.delenv("SHOAL_SECRET")
    with pytest.raises(UserError, match="SHOAL_SECRET is not set"):
        vendor.land("events")
