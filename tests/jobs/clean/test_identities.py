"""clean.identities: which customer the events of a visitor belong to, in whatever order the days are cleaned."""

from datetime import date

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.bronze._reading import hash_personal
from jobs.clean import customers, identities, identity_alarms, visitor_days
from jobs.config.settings import Clean
from tests.jobs.clean import scenarios

FEW = Clean(max_customers_per_visitor=2, customers_within_days=30)
EVENTS = [("v", "2024-03-01 09:00", None), ("v", "2024-03-03 10:00", "anna"), ("v", "2024-03-04 10:00", "anna"),
          ("v", "2024-03-05 10:00", "bert"), ("v", "2024-03-06 08:00", None), ("w", "2024-03-06 08:00", None)]  # fmt: skip
EXPECTED = {
    ("2024-03-01 09:00:00", "2024-03-05 10:00:00", "anna", "back_to_first_event"),
    ("2024-03-05 10:00:00", "None", "bert", "seen"),
}


def frame(spark, rows):
    text = spark.createDataFrame(rows, "visitor_id STRING, at STRING, customer_id STRING")
    return text.select("visitor_id", F.col("at").cast("timestamp").alias("event_at"), F.to_date("at").alias("day"),
                       "customer_id", F.col("customer_id").alias("known_customer_id"))  # fmt: skip


def read(spark, kind, columns):
    """A kind of file of all cases as one frame of text, e-mail addresses as their keys."""
    rows = []
    for case in scenarios.cases("identities"):
        for row in scenarios.read("identities", case, kind):
            row["email_key"] = row["email"] and hash_personal(row["email"], "email", "of the tests")
            prefixed = {c: f"{case}~{row[c]}" for c in scenarios.PREFIXED if row.get(c)}
            rows.append(tuple({**row, **prefixed}.get(c) or None for c in columns))
    return spark.createDataFrame(rows, ", ".join(f"{c} STRING" for c in columns))


@pytest.fixture(scope="module")
def outcome(spark):
    """By kind of file and case: the events with their customers, the links, the alarms; all cases in one Spark job."""
    events = read(spark, "input", ("visitor_id", "event_at", "customer_id", "email_key"))
    events = events.withColumns({"event_at": F.col("event_at").cast("timestamp"), "day": F.to_date("event_at")})
    addresses = read(spark, "customers", ("customer_id", "email_key", "day")).withColumn("day", F.to_date("day"))
    named = customers.add_known_customer(events, addresses, FEW.max_customers_per_mail)
    links = identities.identities(visitor_days.visitor_days(named), FEW).localCheckpoint()
    stitched = identities.attach_customers(named.withColumn("customer_id", F.col("known_customer_id")), links)
    alarms = identity_alarms.identity_alarms(links, addresses, FEW)
    return {kind: scenarios.by_case(rows) for kind, rows in (("expected", stitched), ("identities", links), ("alarms", alarms))}


@pytest.mark.parametrize("case", scenarios.cases("identities"))
def test_identities_match_the_example(outcome, case):
    for kind, by_case in outcome.items():
        expected = scenarios.read("identities", case, kind)
        for row in expected:
            if row.get("rule") == "shared_mail":
                row["id"] = hash_personal(row["id"], "email", "of the tests")
        scenarios.assert_rows(by_case.get(case, []), expected)


def intervals(links):
    return {(str(r.valid_from), str(r.valid_to), r.customer_id, r.rule) for r in links.collect()}


def clean_days(lake, rows):
    days = sorted({date.fromisoformat(at[:10]) for _, at, _ in rows})
    change = identities.find_changes(DataFrame.persist, lake, frame(lake.spark, rows), days, FEW)
    identities.write_changes(lake, change)
    return [str(day) for day in change.restated]


def test_the_order_in_which_days_are_cleaned_does_not_matter(lake):
    for days in ("4", "16", "35"):
        clean_days(lake, [e for e in EVENTS if e[1][9] in days])
    assert intervals(lake.read(identities.TABLE)) == EXPECTED


def test_only_days_whose_events_change_their_customer_are_restated_and_a_rerun_restates_none(lake):
    clean_days(lake, [("v", "2024-03-01 09:00", None), ("w", "2024-03-01 09:00", None)])
    assert clean_days(lake, [("v", "2024-03-03 10:00", "anna")]) == ["2024-03-01"]
    assert clean_days(lake, [("v", "2024-03-04 10:00", "anna")]) == []
    assert clean_days(lake, [("v", "2024-03-03 10:00", "anna")]) == []


def test_events_lose_their_customer_where_the_day_that_showed_them_no_longer_does(lake):
    clean_days(lake, [("v", "2024-03-01 09:00", None)])
    clean_days(lake, [("v", "2024-03-03 10:00", "anna")])
    assert clean_days(lake, [("v", "2024-03-03 10:00", None)]) == ["2024-03-01"]
    assert intervals(lake.read(identities.TABLE)) == set()


def test_an_alarm_and_its_end_restate_the_days_of_the_visitor(lake):
    """Links are data: without the third customer they are what they were; other visitors' links are left as they lie."""
    clean_days(lake, [("kiosk", "2024-03-01 10:00", "anna"), ("other", "2024-03-01 10:00", "dora")])
    clean_days(lake, [("kiosk", "2024-03-02 10:00", "bert"), ("kiosk", "2024-03-02 11:00", None)])
    before = sorted(map(str, lake.read(identities.TABLE).collect()))
    third = ("kiosk", "2024-03-03 10:00", "carl")
    assert clean_days(lake, [third]) == ["2024-03-01", "2024-03-02"]
    assert {str(r.shared_since) for r in lake.read(identities.TABLE).where("visitor_id = 'kiosk'").collect()} == {"2024-03-03"}
    assert clean_days(lake, [("kiosk", "2024-03-03 10:00", None)]) == ["2024-03-01", "2024-03-02"]
    assert sorted(map(str, lake.read(identities.TABLE).collect())) == before


def test_a_day_that_changes_no_link_writes_no_link(lake):
    clean_days(lake, [("v", "2024-03-01 10:00", "anna"), ("w", "2024-03-01 10:00", "bert")])
    version = lake.version(identities.TABLE.name)
    clean_days(lake, [("v", "2024-03-02 10:00", "anna"), ("w", "2024-03-02 10:00", None), ("x", "2024-03-02 10:00", None)])
    assert lake.version(identities.TABLE.name) == version
