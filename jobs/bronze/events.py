"""bronze.events: one row per event as received."""

from datetime import date, datetime

from jobs.bronze._landing import Landed, bronze_table, land
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.storage.lake import Lake

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
}
TABLE = bronze_table("events", __doc__, MEANINGS, partition="day")


def run(lake: Lake, settings: Settings, source: Source, day: date, landed_at: datetime) -> Landed:
    """Land what is new for bronze.events, up to `day`; returns the files for the register."""
    return land(lake, settings, source, TABLE, day, landed_at)
