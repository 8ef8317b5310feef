"""bronze.products: one row per product as received."""

from jobs.bronze._contract import define_table

MEANINGS = {
    "product_id": "product",
    "name": "name",
    "brand": "brand",
    "category": "category",
    "price": "list price",
    "currency": "its currency",
    "known_on": "from when this holds",
}
TABLE = define_table("products", __doc__, MEANINGS)
