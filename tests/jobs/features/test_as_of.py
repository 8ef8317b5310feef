"""As of a day: the features of random customers are what plain Python counts in the rows known by then."""

import math
from datetime import date, timedelta

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jobs import catalogue
from jobs.clean import customers as clean_customers
from jobs.clean import events, orders, returns
from jobs.features import _holidays, customer_days, customers
from tests.jobs.features import logs, oracle

DAY = date(2024, 3, 31)  # an Easter Sunday
TABLES = {"events": events, "orders": orders, "returns": returns, "customers": clean_customers}
NEAR = _holidays.days_near_holidays("GB", [DAY - timedelta(days=n) for n in range(-5, 500)])


@settings(max_examples=2, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), derandomize=True)
@given(first=st.integers(0, 10**6))
def test_random_customers_have_the_features_of_their_rows_known_by_the_day(spark, first):
    logs_by_name = {f"c{seed}": logs.log(seed, DAY) for seed in range(first, first + 150)}
    clean = {n: logs.frame(spark, t, [row for log in logs_by_name.values() for row in log[n]]) for n, t in TABLES.items()}
    partials = customer_days.customer_days(clean["events"], clean["orders"], clean["returns"], NEAR)
    actual = {r.customer_id: r.asDict() for r in customers.customers(partials, clean["customers"], DAY, 365).collect()}
    expected = {name: oracle.features(log, DAY, NEAR.__contains__) for name, log in logs_by_name.items()}
    known_rows = {name: row for name, row in expected.items() if row is not None}
    assert set(actual) == set(known_rows)
    wrong = oracle.differences(actual, known_rows)
    assert not wrong, f"{len(wrong)} customers differ, such as {dict(list(wrong.items())[:3])}"
    assert all(math.isfinite(v) for row in actual.values() for v in row["vector"] if v is not None)


def test_the_oracle_knows_every_column():
    row = oracle.features(logs.log(1, DAY) | {"customers": [{"day": DAY, "registered_at": None, "country": None}]}, DAY, bool)
    assert {f.name for f in catalogue.FEATURES} | set(customers.TABLE.columns) - {"customer_id", "day", "vector"} <= set(row)
