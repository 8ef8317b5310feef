"""As of a day: the features of random customers are what plain Python counts in the rows known by then."""

import math
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jobs import catalogue
from jobs.clean import customers as clean_customers
from jobs.clean import events, orders, returns
from jobs.features import _holidays, customer_days, customers
from tests.jobs.features import logs, oracle

DAY = date(2024, 3, 31)  # an Easter Sunday
TABLES = {
    "events": (events, customer_days.EVENTS),
    "orders": (orders, customer_days.ORDERS),
    "returns": (returns, customer_days.RETURNS),
    "customers": (clean_customers, customers.RECORDS),
}
NEAR = _holidays.days_near_holidays("GB", [DAY - timedelta(days=n) for n in range(-5, 500)])


def compute_features(clean, *days, days_read=1000):
    """features.customers as of the days, out of clean rows; of the first, the last `days_read` days are read as recent."""
    due = {row["day"] for name in ("events", "orders", "returns") for row in clean[name].select(["day"]).to_pylist()}
    due |= {row["session_started_at"].date() for row in clean["events"].select(["session_started_at"]).to_pylist()}
    daily = customer_days.aggregate_customer_days(clean, due, NEAR)["customer_days"]
    is_recent = pc.field("day") > min(days) - timedelta(days=days_read)
    tables = {
        "recent": daily.filter(is_recent).select(customers.RECENT),
        "older": daily.filter(~is_recent).select(customers.OLDER),
        "records": clean["customers"],
    }
    return customers.compute_features(tables, days, 365)["customers"]


@settings(max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), derandomize=True)
@given(first=st.integers(0, 10**6))
def test_random_customers_have_the_features_of_their_rows_known_by_the_day(first):
    logs_by_name = {f"c{seed}": logs.log(seed, DAY) for seed in range(first, first + 150)}
    clean = {
        name: logs.to_arrow(table.TABLE, [row for log in logs_by_name.values() for row in log[name]], columns)
        for name, (table, columns) in TABLES.items()
    }
    actual = {row["customer_id"]: row for row in compute_features(clean, DAY).to_pylist()}
    expected = {name: oracle.features(log, DAY, NEAR.__contains__) for name, log in logs_by_name.items()}
    known_rows = {name: row for name, row in expected.items() if row is not None}
    assert set(actual) == set(known_rows)
    wrong = oracle.differences(actual, known_rows)
    assert not wrong, f"{len(wrong)} customers differ, such as {dict(list(wrong.items())[:3])}"
    assert all(math.isfinite(v) for row in actual.values() for v in row["vector"] if v is not None)


def read_clean(n_customers):
    """The clean tables of so many random customers."""
    rows_by_name = {name: [row for seed in range(n_customers) for row in logs.log(seed, DAY)[name]] for name in TABLES}
    return {name: logs.to_arrow(table.TABLE, rows_by_name[name], columns) for name, (table, columns) in TABLES.items()}


def test_days_aggregated_in_portions_have_the_same_rows():
    """Of each portion only its days are read, and of events the next day, into which a session may go on."""
    clean, one_day = read_clean(50), timedelta(days=1)
    days = sorted({row["day"] for name in ("events", "orders", "returns") for row in clean[name].select(["day"]).to_pylist()})
    days = [min(days) - one_day, *days]
    at_once = customer_days.aggregate_customer_days(clean, days, NEAR)["customer_days"]
    portions = []
    for due in (days[::2], days[1::2]):
        of_due = {name: rows.filter(pc.field("day").isin(due)) for name, rows in clean.items()}
        of_due["events"] = clean["events"].filter(pc.field("day").isin([*due, *(day + one_day for day in due)]))
        portions.append(customer_days.aggregate_customer_days(of_due, due, NEAR)["customer_days"])
    in_order = [(name, "ascending") for name in ("day", "customer_id", "identified_on", "known_until")]
    assert pa.concat_tables(portions).sort_by(in_order).equals(at_once)


def test_the_days_read_in_full_and_the_buckets_do_not_matter():
    clean = read_clean(200)
    at_once = compute_features(clean, DAY)
    assert compute_features(clean, DAY, days_read=365).equals(at_once)
    buckets = [compute_features({n: _select_bucket(rows, bucket) for n, rows in clean.items()}, DAY) for bucket in range(3)]
    assert pa.concat_tables(buckets).sort_by("customer_id").equals(at_once)


def test_days_computed_at_once_have_the_rows_of_each_alone():
    """Rows that became known, or ceased to be, between the days are in the features of one of them only."""
    clean = read_clean(200)
    days = [DAY - timedelta(days=n) for n in (40, 3, 0)]
    alone = [compute_features(clean, day) for day in days]
    assert compute_features(clean, *days, days_read=365).equals(pa.concat_tables(alone))


def _select_bucket(rows, bucket):
    names = rows["customer_id"].to_pylist()
    return rows.take(pa.array([n for n in reversed(range(len(names))) if int(names[n][1:]) % 3 == bucket], pa.int64()))


def test_the_oracle_knows_every_column():
    row = oracle.features(logs.log(1, DAY) | {"customers": [{"day": DAY, "registered_at": None, "country": None}]}, DAY, bool)
    assert {f.name for f in catalogue.FEATURES} | set(customers.TABLE.columns) - {"customer_id", "day", "vector"} <= set(row)
