"""Purchases that are loaded again on a later day count once, in whatever order the days are cleaned."""

from dataclasses import replace
from datetime import date

import pyarrow as pa

from jobs.bronze import events as bronze
from jobs.clean import _event_days, events, events_rejects
from jobs.config.settings import Clean, load_settings
from jobs.config.source_mapping import COLUMNS, Source, TableMapping
from jobs.quality import reconciliation
from jobs.storage.lake import Lake

SHOP = Source("shop", "GBP", {"events": (TableMapping("events", "*", {c: c for c in COLUMNS["events"]}),)})
DAYS = [date(2024, 3, day) for day in (1, 2, 20)]


def land(lake: Lake, purchases: dict[date, str]) -> None:
    """Land a purchase of an order on each day, in the place of the rows of that day."""
    rows = [
        {"visitor_id": "v", "event_at": f"{day} 10:00:00", "event_type": "purchase", "order_id": order, "event_id": f"{day}",
         "_source": "shop", "_file": "file", "_row": 1, "day": day}
        for day, order in purchases.items()
    ]  # fmt: skip
    lake.replace_rows(bronze.TABLE, pa.Table.from_pylist(rows, bronze.TABLE.arrow_schema), list(purchases))


def clean(lake: Lake, days: list[date]) -> list[date]:
    """Clean days, and those that become due by that, as a refresh does. Returns all of them in order."""
    settings = replace(load_settings({}), clean=Clean())
    rows_in = {day: n for (day,), n in lake.count_by(bronze.TABLE.name, ["day"]).items()}
    inputs, cleaned = dict.fromkeys(rows_in, "inputs"), []
    while days:
        accounts = _event_days.clean_event_days(lake, settings, SHOP, days, inputs, rows_in)
        reconciliation.write_accounts(lake, {events.TABLE.name: accounts})
        cleaned += days
        stored = {day: inputs[day] for day in reconciliation.read_revisions(lake, events.TABLE.name)}
        days = reconciliation.due_days(lake, events.TABLE.name, stored, [])
    return cleaned


def read_outcome(lake: Lake) -> tuple[list[date], list[date]]:
    """Return the days of the kept purchases, and of those refused as the same transaction."""
    rejects = lake.read_small_table(events_rejects.TABLE)
    assert all(row["rules"] == ["same_transaction"] for row in rejects)
    return sorted(row["day"] for row in lake.read_small_table(events.TABLE)), sorted(row["day"] for row in rejects)


def test_a_purchase_that_is_loaded_again_counts_once_in_any_order_of_the_days(tmp_path):
    for name, portions in {
        "at once": [DAYS],
        "in order": [[day] for day in DAYS],
        "back": [[day] for day in reversed(DAYS)],
    }.items():
        lake = Lake(None, str(tmp_path / name))
        for portion in portions:
            land(lake, dict.fromkeys(portion, "o1"))
            clean(lake, portion)
        assert read_outcome(lake) == ([DAYS[0], DAYS[2]], [DAYS[1]])  # the last comes after more than transaction_days days


def test_a_purchase_counts_where_the_one_before_it_turns_out_to_be_of_another_order(tmp_path):
    lake = Lake(None, str(tmp_path / "lake"))
    land(lake, dict.fromkeys(DAYS[:2], "o1"))
    assert clean(lake, DAYS[:2]) == DAYS[:2]
    assert clean(lake, DAYS[:1]) == DAYS[:1]  # nothing has changed
    land(lake, {DAYS[0]: "o2"})
    assert clean(lake, DAYS[:1]) == DAYS[:2]
    assert read_outcome(lake) == (DAYS[:2], [])
