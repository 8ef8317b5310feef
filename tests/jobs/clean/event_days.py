"""Days of events cleaned in a lake: bronze rows are written, then the driver runs as in a refresh."""

from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from jobs.bronze import events as bronze
from jobs.clean import _event_days, events
from jobs.config.settings import Clean, load_settings
from jobs.config.source_mapping import Source, TableMapping
from jobs.quality import reconciliation
from jobs.storage.lake import Lake

SHOP = Source("shop", "GBP", {"events": (TableMapping("events", "*", {c: c for c in ("visitor_id", "event_at", "event_type")}),)})


def clean_days(lake: Lake, rows: list[tuple[str, str, str | None]], limits: Clean) -> list[str]:
    """Land views (visitor, time, customer) in the place of the rows of their days, and clean these days.

    Returns the other days whose stored events were restated.
    """
    views = [
        {"visitor_id": visitor, "event_at": at, "customer_id": customer, "event_type": "view", "_source": "shop", "_file": "file",
         "_row": n, "day": datetime.fromisoformat(at).date()}
        for n, (visitor, at, customer) in enumerate(rows)
    ]  # fmt: skip
    days = sorted({view["day"] for view in views})
    lake.replace_rows(bronze.TABLE, pa.Table.from_pylist(views, bronze.TABLE.arrow_schema), days)
    rows_in = {day: n for (day,), n in lake.count_by(bronze.TABLE.name, ["day"]).items()}
    before = reconciliation.read_revisions(lake, events.TABLE.name)
    settings = replace(load_settings({}), clean=limits)
    accounts = _event_days.clean_event_days(lake, settings, SHOP, days, dict.fromkeys(rows_in, "inputs"), rows_in)
    restated = reconciliation.read_revisions(lake, events.TABLE.name)
    reconciliation.write_accounts(lake, {events.TABLE.name: accounts})
    return [str(day) for day in sorted(before) if restated[day] != before[day]]


def read_sorted(lake: Lake, table) -> list[dict]:
    """Return the rows of a table in an order of their values."""
    return sorted(lake.read_small_table(table), key=str)
