"""bronze.orders: one row per order line or return line as received."""

from jobs.bronze._contract import define_table
from jobs.config.source_mapping import DELIVERY_COLUMNS

MEANINGS = {
    "order_id": "order",
    "line_no": "line in the order",
    "ordered_at": "when ordered, or returned",
    "updated_at": "when this version of the line was written",
    "customer_id": "who",
    "email_key": "hash of the e-mail",
    "product_id": "product",
    "category": "category",
    "quantity": "pieces",
    "unit_price": "price of one",
    "discount_amount": "taken off the line",
    "currency": "of the amounts",
    "kind": "what happened: sale, return, cancellation, test, void, adjustment or bad_debt",
    "line_kind": "what the line is: product, postage, fee, tax, discount or gift_card",
    "original_order_id": "order that a return or cancellation is about",
    "country": "country",
    "shop": "shop or channel within which an order number is unique",
    "line_id": "id of the line at the vendor",
    "product_name": "name of the product on the line",
    "line_amount": "money of the whole line, before discount_amount",
    "order_discount": "taken off the whole order; the same on each of its rows, or on one of them",
    "order_shipping": "shipping of the whole order; the same on each of its rows, or on one of them",
    "order_tax": "tax of the whole order on top of its prices; the same on each of its rows, or on one of them",
}
TABLE = define_table("orders", __doc__, MEANINGS, partition="day", origin=DELIVERY_COLUMNS)
