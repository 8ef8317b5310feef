"""Times as shops write them: local ones by the shop's time zone, day first, and counted in seconds since 1970."""

import pytest

MAPPING = """
name = "vendor"
currency = "EUR"
time_zone = "Europe/Berlin"
[orders]
files = "orders.csv"
[orders.columns]
order_id = "id"
ordered_at = "{}"
"""


def ordered_at(vendor, expression, *times):
    """The texts in bronze, and their days, in the order of the rows."""
    vendor.map(MAPPING.format(expression))
    vendor.file("orders.csv", "id,time", *(f"{n},{time}" for n, time in enumerate(times)))
    vendor.land("orders", "2025-01-01")
    return [row[1:] for row in vendor.rows("orders", "_row", "ordered_at", "day")]


def test_a_local_time_gets_the_offset_of_its_day_and_a_stated_one_stays(vendor):
    assert ordered_at(
        vendor, "time",
        "2023-07-01 00:30:00", "2023-01-15T09:00", "2023-10-29 02:30:00.25", "2023-03-26 02:30:00",
        "2023-07-01T00:30:00Z", "2023-07-01 00:30:00 -0500", "2023-07-01 00:30:00 America/Lima", "2023-07-01", "soon",
    ) == [
        ("2023-07-01 00:30:00+02:00", "2023-06-30"), ("2023-01-15T09:00:00+01:00", "2023-01-15"),
        ("2023-10-29 02:30:00.25+02:00", "2023-10-29"),  # the first of two
        ("2023-03-26 02:30:00+01:00", "2023-03-26"),  # skipped, 03:30 of summer time
        ("2023-07-01T00:30:00Z", "2023-07-01"), ("2023-07-01 00:30:00 -0500", "2023-07-01"),
        ("2023-07-01 00:30:00 America/Lima", "2023-07-01"), ("2023-07-01", "2023-07-01"), ("soon", "2025-01-01"),
    ]  # fmt: skip


def test_a_table_may_have_a_time_zone_of_its_own(vendor):
    vendor.map(MAPPING.format("time").replace("[orders.columns]", 'time_zone = "America/New_York"\n[orders.columns]'))
    vendor.file("orders.csv", "id,time", "1,2024-02-29 22:00:00")
    vendor.land("orders")
    assert vendor.rows("orders", "ordered_at", "day") == [("2024-02-29 22:00:00-05:00", "2024-03-01")]


def test_times_in_other_forms_are_an_expression(vendor):
    first = ordered_at(vendor, "try_strptime(time, '%d/%m/%Y %H:%M')", "09/02/2024 10:00", "21/02/2024 10:00", "n/a")
    assert first == [
        ("2024-02-09 10:00:00+01:00", "2024-02-09"), ("2024-02-21 10:00:00+01:00", "2024-02-21"), (None, "2025-01-01"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "text"),
    [("from_epoch_s", "1709290800.5"), ("from_epoch_ms", "1709290800500"), ("from_epoch_us", "1709290800500000")],
)
def test_counted_times_are_utc_and_no_number_is_no_time(vendor, function, text):
    assert ordered_at(vendor, f"{function}(time)", text, "x") == [
        ("2024-03-01 11:00:00.500000+00", "2024-03-01"), (None, "2025-01-01"),
    ]  # fmt: skip
