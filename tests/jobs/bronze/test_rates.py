"""bronze.rates: a rate belongs to its day."""


def test_a_rate_lands_on_its_day(vendor):
    vendor.file("rates.csv", "day,code,rate", "2024-03-01,EUR,0.85")
    vendor.land("rates")
    assert vendor.rows("rates", "rated_on", "currency", "rate", "day") == [("2024-03-01", "EUR", "0.85", "2024-03-01")]
