"""The shop's public holidays."""

from datetime import date

import pytest

from jobs.errors import UserError
from jobs.features import _holidays

EVES = [date(2023, 12, 31), date(2024, 7, 4), date(2024, 6, 26)]


def test_days_before_a_holiday_depend_on_the_country_and_reach_over_the_end_of_a_year():
    assert _holidays.days_near_holidays("US", EVES) == {date(2023, 12, 31), date(2024, 7, 4)}
    assert _holidays.days_near_holidays("GB", EVES) == {date(2023, 12, 31)}


def test_an_unknown_country_is_one_clear_error():
    with pytest.raises(UserError, match="holiday_country = 'Atlantis' is no country"):
        _holidays.days_near_holidays("Atlantis", EVES)
