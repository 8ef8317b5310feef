"""The check of a layer on real tables: good rows pass, a bad row trips what is meant for it, a critical failure stops."""

import importlib
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from pyspark.sql.types import StructField, StructType

from jobs import check, flow
from jobs.errors import UserError

DAY = date(2024, 3, 5)
NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
NAMES = [f"{layer}.{table}" for layer in flow.CHECKED_LAYERS for table in flow.TABLES[layer]]

# A good row of each table, where it says more than its type: other columns are null, 0, 1 or a word.
GOOD = {
    "clean.events": {"event_type": "view", "bot_rule": None, "currency": "GBP"},
    "clean.sessions": {"n_events": 5},
    "clean.orders": {
        "status": "placed", "price_source": "line", "line_kind": "product", "currency": "GBP", "quantity": 2,
        "unit_price": 3, "gross_amount": 6, "discount_amount": 1, "net_amount": 5,
        "returned_quantity": 0, "returned_amount": 0, "returned_at": None,
    },
    "clean.returns": {"kind": "return", "line_kind": "product", "rule": "by_order", "currency": "GBP"},
    "clean.visitor_days": {"seen": []},
    "clean.identities": {"rule": "seen", "valid_to": LATER},
    "clean.identity_alarms": {"rule": "shared_visitor"},
    "clean.products": {"currency": "GBP"},
    "features.customer_days": {"net": 7, "gross": 10, "discount": 2, "returned": 1, "events": 9},
    "features.customers": {"is_active": True, "vector": [1.0, None, 3.0]},
    "marts.customer_segments": {"reasons": ["many orders"], "confidence": 0.5},
    "marts.segment_profiles": {"share": 0.6, "traits": None},
    "marts.segment_moves": {"to_segment_id": 2, "previous_day": DAY - timedelta(days=1)},
    "marts.refreshes": {"status": "published", "table_versions": {"clean.orders": 3}},
}  # fmt: skip
# What a second good row differs in; without it the table has but one.
SECOND = {
    "clean.events": {"event_id": "2"},
    "clean.sessions": {"session_id": "2"},
    "clean.orders": {"line_no": 2},
    "clean.returns": {"return_line_no": 2},
    "clean.visitor_days": {"visitor_id": "2"},
    "clean.identities": {"valid_from": LATER, "valid_to": None},
    "clean.identity_alarms": {"id": "2"},
    "clean.products": {"product_id": "2"},
    "clean.customers": {"customer_id": "2"},
    "features.customer_days": {"customer_id": "2"},
    "features.customers": {"customer_id": "2"},
    "marts.customer_segments": {"customer_id": "2", "segment_id": 2, "segment_name": "Two"},
    "marts.segment_profiles": {"segment_id": 2, "share": 0.4},
    "marts.segment_moves": {"from_segment_id": 3},
    "marts.refreshes": {"run_id": "2"},
}
# (table, how the second row is bad, (expectation, column) that must fail, rows it must count)
BETWEEN, IN_SET, NOT_NULL = (
    "expect_column_values_to_be_between", "expect_column_values_to_be_in_set", "expect_column_values_to_not_be_null",
)  # fmt: skip
BAD = [
    ("clean.events", {"event_id": "word"}, (BETWEEN, "copies"), 2),
    ("clean.events", {"event_type": "wink"}, (IN_SET, "event_type"), 1),
    ("clean.events", {"visitor_id": None}, (NOT_NULL, "visitor_id"), 1),
    ("clean.events", {"event_at": NOON - timedelta(hours=1)}, (BETWEEN, "before_its_session"), 1),
    ("clean.sessions", {"ended_at": NOON - timedelta(hours=1)}, (BETWEEN, "seconds"), 1),
    ("clean.orders", {"line_no": 1}, (BETWEEN, "copies"), 2),
    ("clean.orders", {"net_amount": 6}, (BETWEEN, "does_not_add_up"), 1),
    ("clean.orders", {"returned_quantity": 3}, (BETWEEN, "returned_over_quantity"), 1),
    ("clean.returns", {"order_id": None}, (BETWEEN, "rule_without_line"), 1),
    ("clean.visitor_days", {"last_at": NOON + timedelta(days=1)}, (BETWEEN, "not_on_the_day"), 1),
    ("clean.identities", {"valid_from": NOON + timedelta(minutes=30)}, (BETWEEN, "overlaps"), 1),
    ("clean.identity_alarms", {"id": "word"}, (BETWEEN, "copies"), 2),
    ("clean.products", {"price": 0}, (BETWEEN, "price"), 1),
    ("clean.customers", {"customer_id": "word"}, (BETWEEN, "copies"), 2),
    ("features.customer_days", {"identified_on": DAY - timedelta(days=1)}, (BETWEEN, "known_before_it_happened"), 1),
    ("features.customers", {"vector": [1.0, 2.0]}, (BETWEEN, "vector_sizes"), 2),
    ("features.customers", {"vector": [1.0, None, float("nan")]}, (BETWEEN, "not_a_number"), 1),
    ("features.customers", {"orders_90d": 2}, (BETWEEN, "windows_disagree"), 1),
    ("marts.customer_segments", {"segment_id": 1}, (BETWEEN, "names_of_segment"), 2),
    ("marts.customer_segments", {"confidence": 1.5}, (BETWEEN, "confidence"), 1),
    ("marts.segment_profiles", {"share": 0.5}, (BETWEEN, "share_of_day"), 2),
    ("marts.segment_moves", {"from_segment_id": 2}, (BETWEEN, "stays"), 1),
    ("marts.refreshes", {"status": "half done"}, (IN_SET, "status"), 1),
]


def table_of(name):
    return importlib.import_module(f"jobs.{name}").TABLE


def fields_of(name):
    """The columns of a table; null allowed, so that a row can break the table's own constraints."""
    return StructType([StructField(f.name, f.dataType) for f in StructType.fromDDL(table_of(name).schema)])


def row(name, **differing):
    values = []
    for column in fields_of(name):
        kind = column.dataType.simpleString().split("(")[0]
        usual = {"string": "word", "date": DAY, "timestamp": NOON, "boolean": False, "double": 0.5}.get(kind, 1)
        if kind.startswith(("map", "array")):
            usual = None
        value = {**GOOD.get(name, {}), **differing}.get(column.name, usual)
        values.append(Decimal(value) if kind == "decimal" and value is not None else value)
    return tuple(values)


def frame(spark, name, *differences):
    return spark.createDataFrame([row(name, **different) for different in differences], fields_of(name))


def put(lake, name, *differences):
    """Write rows as the table, without its constraints."""
    frame(lake.spark, name, *differences).write.format("delta").mode("overwrite").save(lake.path(name))


def put_layer(lake, layer):
    for table in flow.TABLES[layer]:
        put(lake, f"{layer}.{table}", {}, SECOND[f"{layer}.{table}"])


def results(lake):
    return [r.asDict() for r in lake.read(check.TABLE).orderBy("day", "table", "position").collect()]


@pytest.fixture
def suites(tmp_path, monkeypatch):
    """A folder of suites of this test's own."""
    monkeypatch.setattr(check, "SUITES", tmp_path / "expectations")
    (tmp_path / "expectations" / "clean").mkdir(parents=True)

    def write(name, expectations, **meta):
        path = tmp_path / "expectations" / f"{name.replace('.', '/')}.json"
        suite = {"name": name, "expectations": expectations, "meta": {"rows": "days", **meta}}
        path.write_text(json.dumps(suite))

    return write


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_is_the_librarys_and_names_only_columns_of_its_table(spark, name):
    suite = check.load(name)
    columns = {f.name for f in fields_of(name)} | set(suite.derived)
    named = {e.configuration.kwargs["column"] for e in suite.suite.expectations if "column" in e.configuration.kwargs}
    assert named <= columns
    assert suite.suite.name == name
    assert suite.by_day == (table_of(name).partition == "day")
    assert set(suite.derived) <= named, "a derived column that nothing is expected of"


def test_every_suite_file_belongs_to_a_checked_table():
    files = sorted(f"{p.parent.name}.{p.stem}" for p in check.SUITES.rglob("*.json"))
    assert files == sorted(NAMES)


@pytest.mark.parametrize("layer", flow.CHECKED_LAYERS)
def test_a_good_layer_passes_with_one_row_per_expectation(lake, layer):
    put_layer(lake, layer)
    check.run(lake, None, layer, [DAY])
    found = results(lake)
    assert [r for r in found if not r["success"]] == []
    assert {(r["day"], r["rows_checked"]) for r in found} == {(DAY, 2)}
    for table in flow.TABLES[layer]:
        suite = check.load(f"{layer}.{table}").suite
        positions = [r["position"] for r in found if r["table"] == f"{layer}.{table}"]
        assert positions == list(range(1, len(suite.expectations) + 1))


@pytest.mark.parametrize("name", ["clean.orders", "features.customers"])
def test_a_suite_is_two_queries_the_row_count_and_all_else(spark, monkeypatch, name):
    rows = frame(spark, name, {})
    collect, asked = type(rows).collect, []
    monkeypatch.setattr(type(rows), "collect", lambda self: asked.append(len(self.columns)) or collect(self))
    check.validated(check.load(name), rows)
    assert len(asked) == 2
    assert asked[0] == 1 < asked[1]


def test_a_rerun_gives_the_same_rows(lake):
    put_layer(lake, "features")
    runs = []
    for _ in range(2):
        check.run(lake, None, "features", [DAY])
        runs.append(results(lake))
    assert runs[0] == runs[1]


@pytest.mark.parametrize(("name", "bad", "expected", "rows"), BAD, ids=lambda v: str(v)[:60])
def test_a_bad_row_trips_what_is_meant_for_it(spark, name, bad, expected, rows):
    found = check.validated(check.load(name), frame(spark, name, {}, SECOND[name] | bad))
    failed = [r for r in found if not r["success"] and r["severity"] == "critical"]
    assert [(r["expectation"], r["column"]) for r in failed] == [expected]
    assert failed[0]["unexpected_count"] == rows
    assert failed[0]["unexpected_share"] == rows / 2


@pytest.mark.parametrize(
    ("name", "failing"),
    [
        ("clean.orders", []),
        ("clean.events", []),
        ("features.customers", ["expect_table_row_count_to_be_between"]),
    ],
)
def test_an_empty_table_fails_only_where_a_day_must_have_rows(spark, name, failing):
    found = check.validated(check.load(name), frame(spark, name, {}).limit(0))
    assert [r["expectation"] for r in found if not r["success"]] == failing


def test_a_failed_critical_stops_the_day_after_all_results_are_written(lake, capsys):
    put(lake, "features.customer_days", {}, {"customer_id": "2", "orders": -1})
    put(lake, "features.customers", {}, {"customer_id": "2", "bounce_share_365d": 2.0})
    with pytest.raises(UserError) as error:
        check.run(lake, None, "features", [DAY])
    assert str(error.value) == (
        "check: features.customer_days, day 2024-03-05: orders: expect_column_values_to_be_between: "
        '1 of 2 rows unexpected, {"column": "orders", "min_value": 0.0}; see quality.results'
    )
    logged = capsys.readouterr().out
    assert "warn  features.customers, day 2024-03-05: bounce_share_365d: expect_column_values_to_be_between" in logged
    assert [(r["table"], r["column"], r["severity"]) for r in results(lake) if not r["success"]] == [
        ("features.customer_days", "orders", "critical"),
        ("features.customers", "bounce_share_365d", "warning"),
    ]


def test_observations_are_kept_as_figures(spark):
    two = frame(spark, "clean.orders", {}, {"line_no": 2, "customer_id": "other", "gross_amount": 9, "net_amount": 8})
    found = {(r["expectation"], r["column"]): r["observed"] for r in check.validated(check.load("clean.orders"), two)}
    assert found["expect_column_unique_value_count_to_be_between", "customer_id"] == "2"
    assert found["expect_column_sum_to_be_between", "net_amount"] == "13.0"


def test_the_first_check_is_of_all_history_and_the_next_of_what_came_since(lake, suites, monkeypatch):
    monkeypatch.setitem(flow.TABLES, "clean", ("sessions",))
    suites("clean.sessions", [{"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 0}}])
    days = [DAY + timedelta(days=n) for n in range(-40, 4)]
    put(lake, "clean.sessions", *({"day": day} for day in days))
    for asked in ([DAY], [DAY + timedelta(days=2)], [DAY]):  # no refresh on the day between
        check.run(lake, None, "clean", asked)
    assert [(r["day"], r["first_day"], r["rows_checked"]) for r in results(lake)] == [
        (DAY, None, 41),
        (DAY + timedelta(days=2), DAY + timedelta(days=1), 2),
    ]


COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 0}}


@pytest.mark.parametrize(
    ("expectations", "meta", "message"),
    [
        ([{"type": "expect_miracles", "kwargs": {}}], {}, "clean/sessions.json: expectation 1, type 'expect_miracles'"),
        ([COUNT, {"type": "expect_column_values_to_be_unique", "kwargs": {"colum": "x"}}], {}, "expectation 2"),
        ([COUNT, {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}}], {}, 'column "x" .* does not exist'),
        ([COUNT], {"derived": {"late": "hour(nowhere)"}}, "clean/sessions.json: meta.derived: .*nowhere"),
        ([COUNT], {"rows": "some"}, "meta.rows is 'some'"),
        ([{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "day"}}], {}, "lacks expect_table_row_count"),
        ([], {}, "no expectations"),
    ],
)  # fmt: skip
def test_a_wrong_suite_is_named_in_one_line(spark, suites, expectations, meta, message):
    suites("clean.sessions", expectations, **meta)
    with pytest.raises(UserError, match=message) as error:
        check.validated(check.load("clean.sessions"), frame(spark, "clean.sessions", {}))
    assert "\n" not in str(error.value)


def test_a_missing_suite_or_table_is_named(lake, suites):
    with pytest.raises(UserError, match=r"expectations/clean/sessions\.json does not exist"):
        check.load("clean.sessions")
    for table in flow.TABLES["clean"]:
        suites(f"clean.{table}", [COUNT])
    with pytest.raises(UserError, match=r"table clean\.events does not exist"):
        check.run(lake, None, "clean", [DAY])
    assert not lake.exists(check.TABLE.name)
