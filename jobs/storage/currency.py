"""The home currency of a lake's amounts: a property of clean.orders, whatever source is configured now."""

from jobs.storage import delta

PROPERTY = "shoal.currency"


def read_currency(root: str) -> str:
    """Return the currency code; "home currency" for a lake that was cleaned before it was stored."""
    path = delta.table_path(root, "clean.orders")
    properties = delta.read_properties(path) if delta.is_written(path) else {}
    return properties.get(PROPERTY, "home currency")
