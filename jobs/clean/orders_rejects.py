"""clean.orders_rejects: one row per refused or repeated row of bronze.orders, as received, with the rules it breaks."""

from jobs.clean._rows import rejects_table
from jobs.config.source_mapping import COLUMNS, DELIVERY_COLUMNS

TABLE = rejects_table("orders", COLUMNS["orders"], DELIVERY_COLUMNS)
