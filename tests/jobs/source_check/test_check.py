"""`shoal source check`: what it says of the first rows of a mapping."""

import pytest

from jobs.__main__ import main

MAPPING = """
name = "shop"
currency = "EUR"
[orders]
files = "*.csv"
{words}
[orders.columns]
order_id = "no"
ordered_at = "{at}"
customer_id = "who"
product_id = "sku"
quantity = "n"
unit_price = "price"
discount_amount = "off"
"""
HEAD = "no,at,who,sku,n,price,off,phone,note"


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Write a mapping and rows, and return what the command prints."""
    for name in ("SHOAL_SECRET", "SHOAL_LAKE", "SHOAL_INPUT"):
        monkeypatch.delenv(name, raising=False)

    def write_and_check(*rows, words="", at="at"):
        (tmp_path / "shop.toml").write_text(MAPPING.format(words=words, at=at))
        (tmp_path / "orders.csv").write_text("\n".join([HEAD, *rows]) + "\n")
        assert main(["source", "check", str(tmp_path / "shop.toml"), "--input", str(tmp_path)]) == 0
        return capsys.readouterr().out

    return write_and_check


def test_it_says_what_each_column_becomes_and_what_is_stored(check):
    rows = ["1,2024-03-01T10:00:00+02:00,ann,mug,1,4.00,0,1,x", "2,2024-03-01T11:00:00+02:00,bo,mug,soon,4.00,0,1,x"]
    said = check(*rows, words='drop = ["phone"]')
    assert "delivery: changes, because updated_at is not mapped" in said
    assert "2 rows read, 1 kept, 1 refused (bad_quantity 1), 0 repeated, 0 left out" in said
    line = next(line for line in said.splitlines() if line.startswith("  ordered_at"))
    assert line.split()[1:4] == ["at", "100", "%"]
    assert line.endswith("2024-03-01 08:00:00 UTC")
    assert "never stored, by `drop`: phone" in said
    assert "not stored, as the mapping does not name them: note" in said
    assert "quantity: 1 of 2 values are no numbers" in said


def test_epochs_that_are_taken_as_text(check):
    said = check("1,1709280000000,ann,mug,1,4.00,0,,", "2,1709280001000,bo,mug,1,4.00,0,,")
    assert "every row is refused, most by `no_time`" in said
    assert "ordered_at: milliseconds since 1970, taken as text: write from_epoch_ms(`at`)" in said
    assert "nothing looks wrong" in check("1,1709280000000,ann,mug,1,4.00,1,,", at="from_epoch_ms(`at`)")


def test_days_first(check):
    said = check("1,13/02/2024 10:00,ann,mug,1,4.00,0,,", "2,03/02/2024 10:00,bo,mug,1,4.00,0,,")
    assert "2 of 2 values are times in another form (the day first" in said
    assert "write try_strptime(`at`, ['%d/%m/%Y %H:%M:%S'" in said


def test_customers_ids_and_amounts_that_cannot_be_right(check):
    rows = [
        f"{n},2024-03-01 10:00:00,guest,{sku},1,{price},5.00,," for n in (1, 2, 3) for sku, price in (("mug", 9), ("8.4E+12", 20))
    ]
    said = check(*rows)
    assert "customer_id: every customer is the same, in 6 rows" in said
    assert "customer_id: guest is no id" in said
    assert "product_id: 3 ids in scientific notation" in said
    assert "discount_amount: the same on all lines of 3 of 3 orders; is it the order's? Map order_discount" in said


def test_columns_that_are_null(check):
    said = check(*["1,2024-03-01 10:00:00,,,,,,,"] * 2)
    assert "5 of 7 mapped columns are null in all rows" in said
