"""`shoal segments` on a small published lake."""

import re

import pytest

from jobs.clean import orders
from jobs.cli.segments import format_segments
from jobs.errors import UserError
from jobs.report.page import write_page
from jobs.storage import currency
from jobs.storage.lake import Lake
from tests.jobs.report.lake import DAY, EVE, VERSION, make_profiles, make_settings, write_rows


def test_the_segments_of_the_latest_day_are_a_table(tmp_path):
    settings = make_settings(tmp_path)
    older = [row | {"day": EVE, "n_customers": 1} for row in make_profiles()]
    write_rows(settings.lake, "marts.segment_profiles", older + make_profiles())
    lake = Lake(None, settings.lake)
    lake.create(orders.TABLE)
    lake.set_property(orders.TABLE, currency.PROPERTY, "SEK")  # the source configured now has another one
    path = write_page(settings, DAY)

    lines = format_segments(settings).splitlines()

    assert re.split(r"\s{2,}", lines[0].strip()) == [
        "segment", "name", "customers", "share", "orders, 365 days", "net, 365 days, SEK", "typical recency",
    ]  # fmt: skip
    assert [re.split(r"\s{2,}", line.strip()) for line in lines[2:6]] == [
        ["1", "Many orders, high spend", "262", "13.1 %", "3,720", "337,561", "3 days"],
        ["2", "Discount shoppers", "415", "20.8 %", "1,618", "50,526", "19 days"],
        ["3", "Browsing a lot, looking only", "701", "35.0 %", "210", "6,926", "12.5 days"],
        ["0", "Dormant", "622", "31.1 %", "0", "0", "512 days"],
    ]
    assert len({len(line) for line in lines[:6]}) == 1
    assert lines[7:] == ["as of  2026-03-31", f"model  {VERSION}", f"report {path}"]


def test_segments_before_the_first_refresh_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"^lake: table marts.segment_profiles does not exist"):
        format_segments(make_settings(tmp_path))
