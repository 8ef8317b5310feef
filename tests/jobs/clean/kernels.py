"""The kernels of clean.events run on rows of a test, without a lake."""

import polars as pl
import pyarrow as pa

from jobs.clean import _people, _robots, customers, events, identities, visitor_days
from jobs.config import policy
from jobs.config.settings import HOME, Clean
from jobs.config.source_mapping import COLUMNS

MAPPED = frozenset(COLUMNS["events"])
NOBODY = _people.list_people(customers.TABLE.arrow_schema.empty_table(), None, customers.NO_SHARED, 1)
NULL_WORDS = policy.load_policy(str(HOME / "conf" / "policy.toml")).null_words


def inputs(limits: Clean, people: _people.People = NOBODY) -> events.Inputs:
    """Return what events are cleaned with."""
    return events.Inputs(people, "GBP", limits, MAPPED, NULL_WORDS)


def classify(raw: pa.Table, limits: Clean, people: _people.People = NOBODY, **stored: pa.Table) -> dict[str, pa.Table]:
    """Return the outputs of events.classify_events; stored tables are empty unless given."""
    earlier = visitor_days.TABLE.arrow_schema.empty_table()
    return events.classify_events({"raw": raw, "earlier": earlier, **stored}, inputs(limits, people))


def clean(
    classified: dict[str, pa.Table], limits: Clean, people: _people.People = NOBODY, **stored: pa.Table
) -> dict[str, pa.Table]:
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
    return events.clean_visitors(tables, fleets, _robots.find_crawlers(agents, limits.app_agents), inputs(limits, people))
