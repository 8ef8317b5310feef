"""quality.profiles: figures of a day, compared with the same weekdays and with other tables."""

from datetime import timedelta
from decimal import Decimal

import pytest

from jobs import flow
from jobs.quality import pipeline, profiles, reconciliation, suites
from jobs.quality._rows import open_rows
from jobs.quality.profiles import Profile, TableProfiles
from jobs.storage.lake import Lake
from tests.jobs.quality.rows import DAY, read_results, write_table

COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 0}}
VOLUME = {
    "type": "expect_row_count_to_be_like_same_weekdays",
    "kwargs": {"min_value": 0.5, "max_value": 2},
    "severity": "warning",
}
FRESH = {"type": "expect_rows_to_be_fresh", "kwargs": {}, "severity": "warning"}


def test_a_day_is_compared_with_the_profiles_of_its_weekdays_not_with_their_rows(lake, settings, suite_files, monkeypatch):
    monkeypatch.setitem(flow.CHECKED_TABLES, "clean", ("sessions",))
    suite_files("clean.sessions", [COUNT, VOLUME, FRESH])
    write_table(lake, "clean.sessions", *({"day": DAY} for _ in range(20)))
    weeks = {DAY - timedelta(weeks=n): Profile(rows) for n, rows in enumerate((1000, 100, 90), start=1)}
    profiles.write_profiles(lake, {"clean.sessions": weeks | {DAY - timedelta(days=1): Profile(20)}})
    for day in (DAY, DAY + timedelta(days=1)):  # the day after has no rows
        pipeline.run(lake, settings, "clean", [day])
    assert [(r["day"], r["column"], r["observed"], r["success"]) for r in read_results(lake) if r["column"]] == [
        (DAY, "volume", "0.2", False),  # the median of 1000, 100 and 90 is 100
        (DAY, "days_behind", "0", True),
        (DAY + timedelta(days=1), "volume", "not known", True),
        (DAY + timedelta(days=1), "days_behind", "1", False),
    ]
    assert {row["day"]: row["rows"] for row in lake.read_small_table(profiles.TABLE) if row["day"] >= DAY} == {
        DAY: 20,
        DAY + timedelta(days=1): 0,
    }


@pytest.mark.parametrize(
    ("rows", "before", "volume"),
    [
        (100, [50, 100, 200, 400], 100 / 150),
        (0, [100, 100, 100], 0),
        (100, [100, 100], None),  # too little history
        (3, [20, 20, 20, 20], None),  # too few rows to say anything
    ],
)
def test_volume_is_rows_by_the_median_of_the_same_weekdays(tmp_path, rows, before, volume):
    history = {DAY - timedelta(weeks=n): Profile(n_rows) for n, n_rows in enumerate(before, start=1)}
    by_day = {DAY: Profile(rows), DAY - timedelta(days=1): Profile(7), **history}
    profiles.add_comparisons(Lake(None, str(tmp_path)), [TableProfiles(suites.load_suite("clean.orders"), by_day, [DAY])])
    assert by_day[DAY].figures.get("volume") == (None if volume is None else pytest.approx(Decimal(volume)))


@pytest.mark.parametrize(("rows_in", "volume"), [(None, 0), (0, None), (40, 0)])
def test_a_day_on_which_no_row_came_in_has_no_volume_and_one_that_lost_its_rows_has(tmp_path, rows_in, volume):
    lake = Lake(None, str(tmp_path))
    earlier = reconciliation.Account(DAY - timedelta(days=1), 9, 9, "x")
    days = (
        []
        if rows_in is None
        else [earlier, *([reconciliation.Account(DAY, rows_in, 0, "x", {"malformed": rows_in})] * (rows_in > 0))]
    )
    reconciliation.write_accounts(lake, {"clean.events": days})
    history = {DAY - timedelta(weeks=n): Profile(100) for n in (1, 2, 3)}
    by_day = {DAY: Profile(0), **history}
    profiles.add_comparisons(lake, [TableProfiles(suites.load_suite("clean.events"), by_day, [DAY])])
    assert by_day[DAY].figures.get("volume") == volume


@pytest.mark.parametrize(
    ("returned", "difference"),
    [("3.0000", 0), ("3.0100", Decimal("0.0100")), (None, None)],
)
def test_sums_of_two_tables_must_match_on_the_day(tmp_path, returned, difference):
    """10.50 paid less 3.00 given back are 7.50."""
    tables = {"features.customer_days": Profile(2, {"net_sum": Decimal("7.5"), "events_sum": Decimal(4)})}
    tables["clean.orders"] = Profile(2, {"known_paid": Decimal("10.5")})
    tables["clean.events"] = Profile()  # no rows have no sum: it is 0
    if returned:
        tables["clean.returns"] = Profile(1, {"known_returned": Decimal(returned)})
    all_profiles = [TableProfiles(suites.load_suite(name), {DAY: profile}, [DAY]) for name, profile in tables.items()]
    profiles.add_comparisons(Lake(None, str(tmp_path)), all_profiles)
    figures = tables["features.customer_days"].figures
    assert figures.get("net_difference") == difference
    assert figures["events_difference"] == 4


def test_sessions_and_their_events_match_by_number_and_by_name(lake):
    write_table(lake, "clean.events", {}, {"event_id": "2", "session_id": "2", "day": DAY + timedelta(days=1)})
    suite, figures = suites.load_suite("clean.sessions"), {}
    for name, session_id in {"same": "2", "another": "3"}.items():
        write_table(lake, suite.name, {}, {"session_id": session_id})
        with open_rows(lake, suite.name) as rows:
            by_day = profiles.profile_days(lake, suite, rows, DAY, DAY)
        profiles.add_comparisons(lake, [TableProfiles(suite, by_day, [DAY])])
        figures[name] = by_day[DAY].figures
    assert figures["same"]["sessions_difference"] == 0
    assert figures["another"]["sessions_difference"] != 0
    assert [figures[name]["events_difference"] for name in figures] == [0, 0]
