"""`shoal changes`: the change feed between two days sums up to the difference between their segments."""

import random
from datetime import date, timedelta

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyarrow import csv, parquet

from jobs.__main__ import main
from jobs.cli import changes
from tests.test_main import refused

FIRST = date(2024, 3, 1)
DAYS = [FIRST + timedelta(days=n) for n in (0, 1, 3, 4)]
KINDS = {"day": pa.date32(), "customer_id": pa.string(), "change": pa.string()}
SCHEMA = pa.schema(KINDS | dict.fromkeys(("from_segment_id", "to_segment_id"), pa.int32()))


@pytest.fixture
def segments(tmp_path, monkeypatch):
    """{day: {customer: segment}} of random days that are published with their feed, in a lake that the settings name."""
    chance, days, held, rows = random.Random(7), {}, {}, []  # noqa: S311
    for day in DAYS:
        drawn = {f"c{i}": chance.choice([None, 1, 1, 2]) for i in range(200)}
        days[day] = {c: s for c, s in drawn.items() if s is not None}
        for c in sorted(drawn):
            was, now = held.get(c), days[day].get(c)
            if was != now:
                rows.append((day, c, "added" if was is None else "removed" if now is None else "changed", was, now))
        held = days[day]
    chance.shuffle(rows)
    columns = [list(column) for column in zip(*rows, strict=True)]
    write_deltalake(str(tmp_path / "lake/marts/segment_changes"), pa.table(columns, SCHEMA), partition_by=["day"])
    write_deltalake(str(tmp_path / "lake/marts/refreshes"), pa.table({"day": DAYS}))
    monkeypatch.setenv("SHOAL_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("SHOAL_SOURCE", "sample")
    return days


def difference(before, now):
    """(customer, change, from, to) of each customer whose segment differs."""
    pairs = {c: (before.get(c), now.get(c)) for c in {*before, *now}}
    kinds = {c: "added" if was is None else "removed" if is_now is None else "changed" for c, (was, is_now) in pairs.items()}
    return sorted((c, kinds[c], *pair) for c, pair in pairs.items() if pair[0] != pair[1])


@pytest.mark.parametrize(("since", "until"), [(-1, 3), (0, 1), (0, 3), (1, 2), (1, 3)])
def test_the_file_has_exactly_what_differs_between_the_two_days(segments, tmp_path, since, until):
    days = {-1: FIRST - timedelta(days=1), **dict(enumerate(DAYS))}
    out = tmp_path / "changes.parquet"
    assert main(["changes", "--since", str(days[since]), "--day", str(days[until]), "--out", str(out)]) == 0
    rows = parquet.read_table(out).to_pylist()
    changed = sorted((r["customer_id"], r["change"], r["from_segment_id"], r["to_segment_id"]) for r in rows)
    assert changed == difference(segments.get(days[since], {}), segments[days[until]])


def test_a_day_without_a_refresh_has_the_segments_of_the_known_day_before(segments, tmp_path):
    out = tmp_path / "changes.csv"
    assert main(["changes", "--since", "2024-03-03", "--out", str(out)]) == 0
    rows = csv.read_csv(out)
    assert rows.column_names == changes.COLUMNS
    assert sorted(rows["customer_id"].to_pylist()) == [c for c, *_ in difference(segments[DAYS[1]], segments[DAYS[3]])]


@pytest.mark.parametrize(("file", "expected"), [("c.csv", "'=cmd|'/c calc'!A0"), ("c.parquet", "=cmd|'/c calc'!A0")])
def test_a_spreadsheet_takes_no_customer_for_a_formula(tmp_path, file, expected):
    rows = pa.table({"customer_id": ["=cmd|'/c calc'!A0", "a=1"], "from_segment_id": [-1, 2]})
    changes.write_changes(rows, tmp_path / file)
    read = csv.read_csv if file.endswith("csv") else parquet.read_table
    assert read(tmp_path / file).to_pydict() == {"customer_id": [expected, "a=1"], "from_segment_id": [-1, 2]}


def test_the_table_counts_changes_by_pair_of_segments(segments, capsys):
    main(["changes", "--since", str(FIRST)])
    lines = capsys.readouterr().out.splitlines()
    expected = difference(segments[FIRST], segments[DAYS[3]])
    assert lines[0].split() == ["change", "from", "to", "customers"]
    n = sum(row[1:] == ("changed", 1, 2) for row in expected)
    assert ["changed", "1", "2", str(n)] in [line.split() for line in lines]
    assert lines[-1] == f"from the end of 2024-03-01 to the end of 2024-03-05: {len(expected)} customers"


def test_who_crossed_a_threshold_is_counted_and_in_the_file(segments, tmp_path, monkeypatch, capsys):
    (tmp_path / "activation.toml").write_text('[[threshold]]\nname = "leaving"\ncolumn = "p_alive"\nbelow = 0.5\n')
    monkeypatch.setenv("SHOAL_ACTIVATION", str(tmp_path / "activation.toml"))
    rows = [(DAYS[1], "c1", 0.9), (DAYS[1], "c2", 0.1), (DAYS[3], "c1", 0.2), (DAYS[3], "c2", 0.3)]
    columns = dict(zip(("day", "customer_id", "p_alive"), map(list, zip(*rows, strict=True)), strict=True))
    write_deltalake(str(tmp_path / "lake/scores/customer_values"), pa.table(columns), partition_by=["day"])

    held_out = pa.table({"customer_id": ["c1", "c2"], "holdout": [True, False]})
    write_deltalake(str(tmp_path / "lake/marts/customer_segments"), held_out)

    assert main(["changes", "--since", str(DAYS[1]), "--out", str(tmp_path / "changes.parquet")]) == 0

    assert {r["customer_id"] for r in parquet.read_table(tmp_path / "changes.parquet").to_pylist() if r["holdout"]} == {"c1"}
    crossed = [row for row in parquet.read_table(tmp_path / "changes.parquet").to_pylist() if row["threshold"]]
    assert [(row["customer_id"], row["change"], row["value"], row["day"]) for row in crossed] == [("c1", "reached", 0.2, DAYS[3])]
    assert capsys.readouterr().out.splitlines()[-1].split() == ["leaving", "reached", "1"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--since", "2024-03-05"), "--since 2024-03-05 is not before 2024-03-05"),
        (("--since", "2024-03-01", "--day", "2024-03-03"), "2024-03-03 is not published in"),
        (("--since", "2024-03-01", "--out", "changes.xlsx"), "a file that ends in .csv or .parquet"),
        (("--since", "2024-03-01", "--out", "/proc/changes.csv"), "/proc/changes.csv cannot be written"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(segments, capsys, argv, message):
    assert message in refused(capsys, "changes", *argv)
