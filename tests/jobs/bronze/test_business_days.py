"""The day of landed rows where the shop's days are not those of UTC."""

from dataclasses import replace

import pytest

MAPPING = """
name = "vendor"
currency = "USD"
[orders]
files = "orders.csv"
[orders.columns]
order_id = "id"
ordered_at = "time"
updated_at = "changed"
[customers]
files = "people.csv"
[customers.columns]
customer_id = "id"
registered_at = "since"
[rates]
files = "rates.csv"
[rates.columns]
rated_on = "day"
currency = "code"
rate = "rate"
"""


@pytest.fixture
def western(vendor):
    """A vendor whose days are those of Los Angeles."""
    vendor.settings = replace(vendor.settings, business_time_zone="America/Los_Angeles")
    vendor.map(MAPPING)
    return vendor


def test_a_time_in_utc_belongs_to_the_evening_of_the_shop(western):
    western.file(
        "orders.csv", "id,time,changed",
        "1,2024-03-02T07:59:59Z,", "2,2024-03-02T08:00:00Z,", "3,2024-03-02 02:00:00+01:00,",
        "4,2024-03-11T06:59:00Z,", "5,2024-03-11T07:00:00Z,",  # summer time since the 10th
    )  # fmt: skip
    western.land("orders", "2024-03-20")
    assert western.rows("orders", "order_id", "ordered_at", "day") == [
        ("1", "2024-03-02T07:59:59Z", "2024-03-01"), ("2", "2024-03-02T08:00:00Z", "2024-03-02"),
        ("3", "2024-03-02 02:00:00+01:00", "2024-03-01"), ("4", "2024-03-11T06:59:00Z", "2024-03-10"),
        ("5", "2024-03-11T07:00:00Z", "2024-03-11"),
    ]  # fmt: skip


def test_a_day_that_the_shop_has_not_begun_when_the_files_are_landed_is_no_day_of_theirs(western):
    # They are landed on 20 March, 00:00 in UTC: the shop has 17:00 on the 19th.
    western.file("orders.csv", "id,time,changed", "1,2024-03-20T06:59:00Z,", "2,2024-03-20T07:30:00Z,")
    western.land("orders", "2024-03-18")
    assert western.rows("orders", "order_id", "day") == [("1", "2024-03-19"), ("2", "2024-03-18")]


def test_a_day_without_a_time_is_the_day_of_the_shop(western):
    western.file("orders.csv", "id,time,changed", "1,2024-03-01,2024-3-11", "2, 2024-07-04 ,soon", "3,2024-02-30,")
    western.land("orders", "2024-03-19")
    assert western.rows("orders", "order_id", "ordered_at", "updated_at", "day") == [
        ("1", "2024-03-01 00:00:00-08:00", "2024-3-11 00:00:00-07:00", "2024-03-01"),
        ("2", "2024-07-04 00:00:00-07:00", "soon", "2024-03-19"),  # after the day of landing
        ("3", "2024-02-30", None, "2024-03-19"),
    ]  # fmt: skip


def test_a_local_time_of_the_mapping_belongs_to_its_own_day(western):
    western.map(MAPPING.replace('currency = "USD"', 'currency = "USD"\ntime_zone = "America/Los_Angeles"', 1))
    western.file("orders.csv", "id,time,changed", "1,2024-03-01 23:30:00,", "2,2024-03-02,")
    western.land("orders", "2024-03-20")
    assert western.rows("orders", "order_id", "ordered_at", "day") == [
        ("1", "2024-03-01 23:30:00-08:00", "2024-03-01"), ("2", "2024-03-02 00:00:00-08:00", "2024-03-02"),
    ]  # fmt: skip


def test_a_rate_keeps_the_day_it_states_and_a_customer_has_the_day_of_the_shop(western):
    western.file("rates.csv", "day,code,rate", "2024-03-02,EUR,1.08")
    western.file("people.csv", "id,since", "ann,2024-03-02T03:00:00Z", "bob,2024-03-02")
    western.land("rates")
    western.land("customers")
    assert western.rows("rates", "rated_on", "day") == [("2024-03-02", "2024-03-02")]
    assert western.rows("customers", "customer_id", "day") == [("ann", "2024-03-01"), ("bob", "2024-03-02")]


def test_another_zone_lands_files_with_times_again_and_only_these(western, capsys):
    western.file("orders.csv", "id,time,changed", "1,2024-03-02T07:00:00Z,")
    western.file("rates.csv", "day,code,rate", "2024-03-02,EUR,1.08")
    for zone, day in (("America/Los_Angeles", "2024-03-01"), ("UTC", "2024-03-02"), ("America/Los_Angeles", "2024-03-01")):
        western.settings = replace(western.settings, business_time_zone=zone)
        western.land("orders", "2024-03-20")
        assert western.rows("orders", "day") == [(day,)]
    western.land("rates")
    western.settings = replace(western.settings, business_time_zone="UTC")
    capsys.readouterr()
    western.land("rates")
    assert "all landed before" in capsys.readouterr().out
