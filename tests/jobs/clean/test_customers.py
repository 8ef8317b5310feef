"""clean.customers: attributes as known on a day."""

from datetime import UTC, date, datetime

from jobs.bronze import customers as bronze
from jobs.clean import customers
from tests.jobs.clean.kernels import NULL_WORDS
from tests.jobs.clean.rejects import land

DAYS = [date(2024, 3, 1), date(2024, 3, 2)]


def classify(*rows):
    """Return (outcome, rules) of each row, and clean.customers."""
    raw = land(bronze.TABLE, *rows)
    outcomes = customers.classify_customers(raw, NULL_WORDS)
    return outcomes.select("outcome", "rules").rows(), customers.build_customers(raw, outcomes).to_pylist()


def test_an_unknown_registration_is_null_and_other_fields_are_attributes():
    sent = [("anna", "1970-01-01 00:00:00"), ("bert", "2024-02-01 10:00:00"), ("", "2024-02-01")]
    rows = [{"customer_id": who, "registered_at": at, "_extra": [("ltv", "3")], "day": DAYS[0]} for who, at in sent]
    outcomes, kept = classify(*rows)
    assert outcomes == [("kept", []), ("kept", []), ("reject", ["no_customer"])]
    assert [row["registered_at"] for row in kept] == [None, datetime(2024, 2, 1, 10, tzinfo=UTC)]
    assert kept[0]["attributes"] == [("ltv", "3")]


def test_attributes_in_another_order_are_no_change_and_another_attribute_is():
    anna = {"customer_id": "anna", "day": DAYS[0], "_extra": [("ltv", "3"), ("tier", None)]}
    same = anna | {"day": DAYS[1], "_extra": [("tier", None), ("ltv", "3")]}
    assert classify(anna, same)[0] == [("kept", []), ("duplicate", ["unchanged"])]
    for extra in ([("ltv", "3")], [("ltv", "3"), ("tier", "")], [("ltv", "4"), ("tier", None)]):
        assert classify(anna, same | {"_extra": extra})[0] == [("kept", []), ("kept", [])]
