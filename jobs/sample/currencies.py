"""The countries of the shop, their currencies and the daily exchange rates."""

from datetime import date

import numpy as np

HOME_CURRENCY = "GBP"
COUNTRIES = ("GB", "IE", "DE", "FR", "US", "SE")
COUNTRY_SHARES = (0.70, 0.06, 0.07, 0.05, 0.08, 0.04)
CURRENCIES = (HOME_CURRENCY, "EUR", "USD", "SEK")
CURRENCY_OF_COUNTRY = np.array([0, 1, 1, 1, 2, 3])
PRICE_FACTORS = (1.0, 1.2, 1.3, 13.5)
SEK = CURRENCIES.index(
    "SEK"
)  # has no rate on Saturday and Sunday, and no sale that could take an older one; prices in whole kronor
UNITS_PER_RATE = 10_000  # rates are whole ten-thousandths of the home currency


def draw_rates(day: date, seed: int) -> dict[str, int]:
    """Return the day's exchange rates: ten-thousandths of the home currency for one unit of each other currency.

    The rates are such that each amount is exact in four decimals.
    """
    rng = np.random.default_rng((seed, 4, day.toordinal()))
    euro, dollar, krona = rng.integers(-2, 3), rng.integers(-2, 3), rng.integers(-20, 21)
    rates = {"EUR": 8500 + 100 * int(euro), "USD": 7800 + 100 * int(dollar)}
    return rates if day.weekday() >= 5 else {**rates, "SEK": 742 + int(krona)}


def round_to_currency(hundredths: np.ndarray, currency: np.ndarray) -> np.ndarray:
    """Return amounts in hundredths, rounded down to whole kronor where the currency is SEK."""
    hundredths = hundredths.astype("i8")
    return np.where(currency == SEK, hundredths // 100 * 100, hundredths)
