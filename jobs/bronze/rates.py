"""bronze.rates: one row per currency and day as received."""

from jobs.bronze._contract import define_table

MEANINGS = {
    "rated_on": "day",
    "currency": "foreign currency",
    "rate": "home currency units per one unit",
}
TABLE = define_table("rates", __doc__, MEANINGS)
