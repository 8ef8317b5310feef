"""bronze.orders: one row per order line or return line as received."""

from datetime import date, datetime

from jobs.bronze._landing import Landed, bronze_table, land
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.storage.lake import Lake

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
    "undoes_order_id": "order that a return undoes",
    "country": "country",
}
TABLE = bronze_table("orders", __doc__, MEANINGS, partition="day")


def run(lake: Lake, settings: Settings, source: Source, day: date, landed_at: datetime) -> Landed:
    """Land what is new for bronze.orders, up to `day`; returns the files for the register."""
    return land(lake, settings, source, TABLE, day, landed_at)
