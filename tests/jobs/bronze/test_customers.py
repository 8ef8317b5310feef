"""bronze.customers: valid from the day of registration."""


def test_a_customer_counts_from_the_day_of_registration(vendor):
    vendor.file("people.csv", "id,since", "anna,2024-02-01 09:00:00", "bert,")
    vendor.land("customers")
    assert vendor.rows("customers", "customer_id", "day") == [("anna", "2024-02-01"), ("bert", "1970-01-01")]
