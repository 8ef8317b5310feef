"""The feature catalogue: what every feature of features.customers is called, means and falls back to. No Spark here."""

from typing import NamedTuple


class Feature(NamedTuple):
    """One column of features.customers.

    `window` is in days, 0 for the whole life; `missing` says what null means; `high` and `low` are the words that
    describe a segment lying well above or below the average customer; `in_vector` says whether the encoder sees it.
    """

    name: str
    sql_type: str
    unit: str
    window: int
    meaning: str
    missing: str
    high: str = ""
    low: str = ""
    in_vector: bool = True
