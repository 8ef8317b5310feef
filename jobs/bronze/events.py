"""bronze.events: one row per event as received."""

from jobs.bronze._contract import define_table

MEANINGS = {
    "event_id": "id of the event at the vendor",
    "event_at": "when",
    "visitor_id": "device or browser",
    "customer_id": "who, where the vendor knows",
    "email_key": "hash of the e-mail",
    "event_type": "what",
    "product_id": "product",
    "category": "category",
    "price": "price shown",
    "currency": "its currency",
    "search_term": "words searched for",
    "page": "page",
    "device": "kind of device",
    "country": "country",
    "user_agent": "user agent",
    "channel": "where the visit came from",
    "sent_at": "when it was sent, by the clock of the client",
    "received_at": "when it arrived, by the clock of the server",
    "order_id": "order that a purchase event is about",
    "address": "hash of the network address",
}
TABLE = define_table("events", __doc__, MEANINGS, partition="day")
