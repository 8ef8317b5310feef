"""A made-up shop with known truth, as a vendor would deliver it: one set of files per day, for the demo and the tests.

Customers have a planted type, each with its own season, weekdays and hours, devices, categories, searches, discounts and
returns. The types differ but overlap. Beside its type a customer has a taste, which shows in texts, and a rhythm,
which shows in the order of events only: features that count and add up see neither. The rows also hold robots, people who
look like robots, duplicates, late events, broken rows, wrong clocks, other currencies, postage, fees, vouchers, gift cards,
test orders, voids and bad debts.
`truth/` beside the files says what was planted, without personal data.

One more day leaves the files of the earlier days as they were, byte for byte. Customers draw row by row from a random
stream of their own, and each day has a stream seeded with (seed, day).
"""
