"""bronze.orders: one row per order line or return line as received."""

from jobs.bronze._contract import define_table

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
    "line_kind": "what the line is: product, postage, fee, discount or gift_card",
    "original_order_id": "order that a return or cancellation is about",
    "country": "country",
}
TABLE = define_table("orders", __doc__, MEANINGS, partition="day")
