"""The days on or shortly before a public holiday of the shop's country."""

from collections.abc import Collection
from datetime import date, timedelta

from jobs.catalogue import HOLIDAY_LEAD_DAYS
from jobs.errors import UserError


def days_near_holidays(country: str, days: Collection[date]) -> frozenset[date]:
    """Return those of `days` that are a public holiday or at most HOLIDAY_LEAD_DAYS days before one.

    `country` is an ISO 3166 code that the package `holidays` knows; raises UserError for another.

    >>> sorted(d.day for d in days_near_holidays("GB", [date(2024, 12, n) for n in (17, 18, 25, 26, 27)]))
    [18, 25, 26, 27]
    """
    import holidays

    lead = timedelta(days=HOLIDAY_LEAD_DAYS)
    years = {day.year for day in days} | {(day + lead).year for day in days}
    try:
        public = set(holidays.country_holidays(country, years=years))
    except NotImplementedError:
        raise UserError(
            f"settings: features.holiday_country = '{country}' is no country whose public holidays are known; "
            "give its ISO code, such as GB, US or DE"
        ) from None
    return frozenset(day for day in days if any(day + timedelta(days=n) in public for n in range(lead.days + 1)))
