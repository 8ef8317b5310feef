"""The kernels of clean.events run on rows of a test, without a lake."""

import polars as pl
import pyarrow as pa

from jobs.clean import _robots, customers, events, identities, visitor_days
from jobs.config.settings import Clean
from jobs.config.source_mapping import COLUMNS

MAPPED = frozenset(COLUMNS["events"])
NO_MAILS = customers.find_mail_owners(customers.TABLE.arrow_schema.empty_table())


def classify(raw: pa.Table, limits: Clean, mails: pl.DataFrame = NO_MAILS) -> dict[str, pa.Table]:
    """Return the outputs of events.classify_events."""
    return events.classify_events({"raw": raw}, mails, "GBP", limits, MAPPED)


def clean(classified: dict[str, pa.Table], limits: Clean, **stored: pa.Table) -> dict[str, pa.Table]:
    """Return the outputs of events.clean_visitors; stored tables are empty unless given."""
    empty = {
        "open": events.TABLE.arrow_schema.empty_table().select(events.OPEN_COLUMNS),
        "later": events.TABLE.arrow_schema.empty_table(),
        "visitor_days": visitor_days.TABLE.arrow_schema.empty_table(),
        "links": identities.TABLE.arrow_schema.empty_table(),
    }
    agents = pl.Series(pl.from_arrow(classified["agents"]["user_agent"]))
    fleets = _robots.find_fleets(pl.DataFrame(pl.from_arrow(classified["fingerprints"])), limits)
    tables = {"kept": classified["kept"], **empty, **stored}
    return events.clean_visitors(tables, fleets, _robots.find_crawlers(agents), limits, MAPPED)
