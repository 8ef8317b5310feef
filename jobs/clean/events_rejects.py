"""clean.events_rejects: one row per refused or repeated row of bronze.events, as received, with the rules it breaks."""

from jobs.clean._rows import rejects_table
from jobs.config.source_mapping import COLUMNS

TABLE = rejects_table("events", COLUMNS["events"])
