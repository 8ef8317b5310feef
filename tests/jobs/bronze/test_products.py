"""bronze.products: an undated catalogue is valid for every day."""


def test_an_undated_product_is_valid_from_the_beginning(vendor):
    vendor.file("products.csv", "sku,price", "mug,2.00")
    vendor.land("products")
    assert vendor.rows("products", "product_id", "price", "day") == [("mug", "2.00", "1970-01-01")]
