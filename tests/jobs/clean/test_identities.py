"""clean.identities: which customer the events of a visitor belong to, in whatever order the days are cleaned."""

from datetime import date

import polars as pl
import pyarrow as pa
import pytest

from jobs.bronze import events as bronze
from jobs.bronze._personal import hash_personal
from jobs.clean import _people, customers, identities, identity_alarms
from jobs.config.settings import Clean
from tests.jobs.clean import event_days, kernels, scenarios

TIME = "%Y-%m-%d %H:%M:%S"
FEW = Clean(max_customers_per_visitor=2, customers_within_days=30)
EVENTS = [("v", "2024-03-01 09:00", None), ("v", "2024-03-03 10:00", "anna"), ("v", "2024-03-04 10:00", "anna"),
          ("v", "2024-03-05 10:00", "bert"), ("v", "2024-03-06 08:00", None), ("w", "2024-03-06 08:00", None)]  # fmt: skip
EXPECTED = {
    ("2024-03-01 09:00:00", "2024-03-05 10:00:00", "anna", "back_to_first_event"),
    ("2024-03-05 10:00:00", None, "bert", "seen"),
}


def read(kind):
    """A kind of file of all cases, e-mail addresses as their keys."""
    rows = []
    for case in scenarios.cases("identities"):
        for row in scenarios.read("identities", case, kind):
            row["email_key"] = row["email"] and hash_personal(row["email"], "email", "a key of the tests alone")
            prefixed = {c: f"{case}~{row[c]}" for c in scenarios.PREFIXED if row.get(c)}
            rows.append({c: value or None for c, value in {**row, **prefixed}.items()})
    return rows


@pytest.fixture(scope="module")
def outcome():
    """By kind of file and case: the events with their customers, the links, the alarms; all cases in one call."""
    days = [row | {"day": date.fromisoformat(row["day"])} for row in read("customers")]
    addresses = pa.Table.from_pylist(days, customers.TABLE.arrow_schema)
    origin = {"event_type": "view", "_source": "shop", "_file": "file"}
    rows = [origin | row | {"_row": n, "day": date.fromisoformat(row["event_at"][:10])} for n, row in enumerate(read("input"))]
    raw = pa.Table.from_pylist(rows, bronze.TABLE.arrow_schema)
    people = _people.list_people(addresses, None, customers.NO_SHARED, FEW.max_customers_per_mail)
    cleaned = kernels.clean(kernels.classify(raw, FEW, people), FEW, people)
    mails = customers.find_shared_mails(addresses, FEW.max_customers_per_mail)
    alarms = pl.concat(identity_alarms.find_alarms(cleaned["links"], mails)).to_arrow()
    kinds = {"expected": cleaned["events"].drop_columns(["event_id"]), "identities": cleaned["links"], "alarms": alarms}
    return {kind: scenarios.by_case(rows) for kind, rows in kinds.items()}


@pytest.mark.parametrize("case", scenarios.cases("identities"))
def test_identities_match_the_example(outcome, case):
    for kind, by_case in outcome.items():
        expected = scenarios.read("identities", case, kind)
        for row in expected:
            if row.get("rule") == "shared_mail":
                row["id"] = hash_personal(row["id"], "email", "a key of the tests alone")
        scenarios.assert_rows(by_case.get(case, []), expected)


def intervals(lake):
    rows = lake.read_small_table(identities.TABLE)
    return {
        (f"{row['valid_from']:{TIME}}", row["valid_to"] and f"{row['valid_to']:{TIME}}", row["customer_id"], row["rule"])
        for row in rows
    }


def shared_since(lake):
    return {(row["visitor_id"], row["shared_since"]) for row in lake.read_small_table(identities.TABLE)}


def clean_days(lake, rows):
    return event_days.clean_days(lake, rows, FEW)


def test_the_order_in_which_days_are_cleaned_does_not_matter(lake):
    for days in ("4", "16", "35"):
        clean_days(lake, [e for e in EVENTS if e[1][9] in days])
    assert intervals(lake) == EXPECTED


def test_only_days_whose_events_change_their_customer_are_restated_and_a_rerun_restates_none(lake):
    clean_days(lake, [("v", "2024-03-01 09:00", None), ("w", "2024-03-01 09:00", None)])
    assert clean_days(lake, [("v", "2024-03-03 10:00", "anna")]) == ["2024-03-01"]
    assert clean_days(lake, [("v", "2024-03-04 10:00", "anna")]) == []
    assert clean_days(lake, [("v", "2024-03-03 10:00", "anna")]) == []


def test_events_lose_their_customer_where_the_day_that_showed_them_no_longer_does(lake):
    clean_days(lake, [("v", "2024-03-01 09:00", None)])
    clean_days(lake, [("v", "2024-03-03 10:00", "anna")])
    assert clean_days(lake, [("v", "2024-03-03 10:00", None)]) == ["2024-03-01"]
    assert intervals(lake) == set()


def test_an_alarm_and_its_end_restate_the_days_of_the_visitor(lake):
    """Links are data: without the third customer they are what they were; other visitors' links are left as they lie."""
    clean_days(lake, [("kiosk", "2024-03-01 10:00", "anna"), ("other", "2024-03-01 10:00", "dora")])
    clean_days(lake, [("kiosk", "2024-03-02 10:00", "bert"), ("kiosk", "2024-03-02 11:00", None)])
    before = event_days.read_sorted(lake, identities.TABLE)
    third = ("kiosk", "2024-03-03 10:00", "carl")
    assert clean_days(lake, [third]) == ["2024-03-01", "2024-03-02"]
    assert shared_since(lake) == {("kiosk", date(2024, 3, 3)), ("other", None)}
    assert clean_days(lake, [("kiosk", "2024-03-03 10:00", None)]) == ["2024-03-01", "2024-03-02"]
    assert event_days.read_sorted(lake, identities.TABLE) == before


def test_a_day_that_changes_no_link_writes_no_link(lake):
    clean_days(lake, [("v", "2024-03-01 10:00", "anna"), ("w", "2024-03-01 10:00", "bert")])
    version = lake.version(identities.TABLE.name)
    clean_days(lake, [("v", "2024-03-02 10:00", "anna"), ("w", "2024-03-02 10:00", None), ("x", "2024-03-02 10:00", None)])
    assert lake.version(identities.TABLE.name) == version
