"""quality.results: a row per expectation and day, and a failed critical one stops the day."""

from datetime import timedelta

import pyarrow as pa
import pytest

from jobs import flow
from jobs.errors import UserError
from jobs.quality import pipeline, profiles, quarantine, results, suites
from tests.jobs.quality.rows import DAY, read_results, write_good_layer, write_table

COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 0}}


@pytest.mark.parametrize("layer", flow.CHECKED_LAYERS)
def test_a_good_layer_passes_with_one_row_per_expectation(lake, settings, layer):
    write_good_layer(lake, layer)
    pipeline.run(lake, settings, layer, [DAY])
    rows = read_results(lake)
    assert [r for r in rows if not r["success"]] == []
    assert {r["day"] for r in rows} == {DAY}
    for table in flow.CHECKED_TABLES[layer]:
        suite = suites.load_suite(f"{layer}.{table}")
        of_table = [r for r in rows if r["table"] == suite.name]
        assert [r["position"] for r in of_table] == list(
            range(1, len(suite.row_expectations) + len(suite.figure_expectations) + 1)
        )
        assert {r["rows_checked"] for r in of_table if r["column"] not in suite.figures} == {2}
    assert {row["table"]: row["rows"] for row in lake.read_small_table(profiles.TABLE)} == {
        f"{layer}.{table}": 2 for table in flow.CHECKED_TABLES[layer]
    }
    assert not lake.exists(quarantine.TABLE.name)


def test_a_failed_critical_stops_the_day_after_all_results_are_written(lake, settings, capsys):
    write_table(lake, "features.customer_days", {}, {"customer_id": "2", "orders": -1})
    write_table(lake, "features.customers", {}, {"customer_id": "2", "bounce_share_365d": 2.0})
    for name in ("outcomes", "item_days", "texts", "vectors", "interests"):
        write_table(lake, f"features.{name}", {})
    with pytest.raises(UserError) as error:
        pipeline.run(lake, settings, "features", [DAY])
    assert str(error.value) == (
        "check: features.customer_days, day 2024-03-05: orders: expect_column_values_to_be_between: "
        '1 of 2 rows unexpected, {"column": "orders", "min_value": 0.0}; see quality.results; the rows are in quality.quarantine'
    )
    logged = capsys.readouterr().out
    assert "warn  features.customers, day 2024-03-05: bounce_share_365d: expect_column_values_to_be_between" in logged
    assert [(r["table"], r["column"], r["severity"]) for r in read_results(lake) if not r["success"]] == [
        ("features.customer_days", "orders", "critical"),
        ("features.customers", "bounce_share_365d", "warning"),
    ]


def test_the_first_check_is_of_all_days_and_the_next_of_those_since(lake, settings, suite_files, monkeypatch):
    monkeypatch.setitem(flow.CHECKED_TABLES, "clean", ("sessions",))
    suite_files("clean.sessions", [COUNT])
    write_table(lake, "clean.sessions", *({"day": DAY + timedelta(days=n)} for n in range(-40, 4)))
    for days in ([DAY], [DAY + timedelta(days=2)], [DAY]):  # no refresh on the day between
        pipeline.run(lake, settings, "clean", days)
    assert [(r["day"], r["first_day"], r["rows_checked"]) for r in read_results(lake)] == [
        (DAY, None, 41),
        (DAY + timedelta(days=2), DAY + timedelta(days=1), 2),
    ]
    assert lake.count_by(profiles.TABLE.name, ["rows"]) == {(1,): 43}


def test_results_of_other_days_and_tables_are_kept_though_they_lie_in_the_same_file(lake):
    def result(table, day):
        return dict.fromkeys(results.TABLE.columns) | {
            "table": table, "day": day, "position": 1, "expectation": "", "severity": "info", "success": True,
            "rows_checked": 1, "kwargs": "",
        }  # fmt: skip

    before = [result(table, day) for table in ("clean.events", "clean.orders") for day in (DAY, DAY + timedelta(days=1))]
    lake.replace_rows(results.TABLE, pa.Table.from_pylist(before, results.TABLE.arrow_schema))
    results.write_results(lake, ["clean.events"], DAY, [result("clean.events", DAY) | {"kwargs": "new"}])
    assert [(r["table"], r["day"], r["kwargs"]) for r in read_results(lake)] == [
        ("clean.events", DAY, "new"),
        ("clean.orders", DAY, ""),
        ("clean.events", DAY + timedelta(days=1), ""),
        ("clean.orders", DAY + timedelta(days=1), ""),
    ]
    assert results.last_checked_days(lake, ["clean.events", "clean.sessions"], DAY + timedelta(days=90)) == {
        "clean.events": DAY + timedelta(days=1)
    }
