"""Cleaning of days: products and customers first, because events and orders look them up; then events and orders.

Every table says what became of each row that came in: kept, refused or repeated, by rule.
"""

from collections import Counter
from datetime import date
from functools import partial

from jobs.bronze import files
from jobs.clean import (
    _event_days,
    _ids,
    _money,
    _order_days,
    _people,
    _references,
    _rows,
    events,
    identities,
    identity_alarms,
    identity_days,
    orders,
    returns,
    sessions,
    visitor_days,
)
from jobs.concurrency import run_in_parallel
from jobs.config.policy import load_policy
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.errors import NotDue, UserError
from jobs.progress import format_days
from jobs.quality import reconciliation
from jobs.storage import currency
from jobs.storage.lake import Lake

_TABLES = (
    events.TABLE, sessions.TABLE, orders.TABLE, returns.TABLE, visitor_days.TABLE, identities.TABLE, identity_alarms.TABLE,
    identity_days.TABLE,
)  # fmt: skip


def run(lake: Lake, settings: Settings, source: Source, days: list[date]) -> None:
    """Clean `days`, and every earlier day whose files, mapping or settings have changed since it was cleaned.

    Raises UserError where nothing was landed up to the last of `days`, and for a day whose rows do not add up. Raises NotDue
    where `days` have no data and no earlier day changed.
    """
    landed = {table: _read_days(lake, table) for table in source.mappings}
    has_data = _check_data(landed, days)
    reference = _references.product_reference(lake, settings, source)
    refreshed = run_in_parallel(
        {
            "products": lambda: {reference.table.name: _references.refresh_reference_table(lake, reference, landed)},
            "people": partial(_references.refresh_people, lake, settings, source, landed, days[-1]),
        }
    )
    accounts = refreshed["products"] | refreshed["people"]
    accounts |= _clean_due_days(lake, settings, source, landed, days[-1], days)
    for table in _TABLES:
        lake.create(table)  # so that a source without clicks, or without orders, has empty tables
    lake.set_property(orders.TABLE, currency.PROPERTY, source.currency)
    identity_alarms.run(lake, _people.read_learned(lake, source), settings.clean)
    reconciliation.write_accounts(lake, accounts)
    if not has_data and not any(accounts.values()):
        raise NotDue(f"clean: no data for {format_days(days)}, and no earlier day changed")
    # Purchases of a day that was cleaned now may take away, or give back, those of later days.
    while accounts := _clean_due_days(lake, settings, source, landed, days[-1], []):
        reconciliation.write_accounts(lake, accounts)


def _read_days(lake: Lake, table: str) -> dict[date, dict]:
    """Return the landed days of a table as files.read_days, and days without rows for those that were cleaned and lost theirs."""
    cleaned = reconciliation.read_revisions(lake, f"clean.{table}")
    return {day: {"n_rows": Counter(), "files": []} for day in cleaned} | files.read_days(lake, [f"bronze.{table}"])


def _check_data(landed: dict[str, dict[date, dict]], days: list[date]) -> bool:
    """Return whether an event or order was landed for any of `days`. Raises UserError where none was for earlier days either."""
    entries = [(day, entry) for table in ("events", "orders") for day, entry in landed.get(table, {}).items()]
    days_with_data = {day for day, entry in entries if entry["n_rows"].total()}
    if not any(day <= days[-1] for day in days_with_data):
        raise UserError(f"clean: no data for {format_days(days)}; nothing was landed for an earlier day either")
    return bool(days_with_data & set(days))


def _clean_due_days(
    lake: Lake, settings: Settings, source: Source, landed: dict[str, dict[date, dict]], last_day: date, days: list[date]
) -> dict[str, list[reconciliation.Account]]:
    """Clean the due days of events and of orders up to `last_day`, and those of `days`, at the same time.

    Returns their accounts by table, none where no day is due.
    """
    rates = _money.read_rates(lake) if source.has("rates") else {}
    calls = {}
    for table, clean_days in (("events", _event_days.clean_event_days), ("orders", _order_days.clean_order_days)):
        entries = landed.get(table, {})
        inputs = _fingerprint_days(settings, source, entries, rates if table == "orders" else {})
        requested = [day for day in days if day in entries and entries[day]["n_rows"].total()]
        possible = {day: fingerprint for day, fingerprint in inputs.items() if day <= last_day}
        if due := reconciliation.due_days(lake, f"clean.{table}", possible, requested):
            rows_in = {day: entry["n_rows"][f"bronze.{table}"] for day, entry in entries.items()}
            calls[f"clean.{table}"] = partial(clean_days, lake, settings, source, due, inputs, rows_in)
    return run_in_parallel(calls)


def _fingerprint_days(settings: Settings, source: Source, entries: dict[date, dict], rates: dict) -> dict[date, str]:
    """Return the fingerprint of everything that the rows of each landed day depend on."""
    shared = (_rows.VERSION, settings.clean, source.currency, _ids.describe(load_policy(settings.policy).null_words))
    shared += _rows.describe_zone(settings)
    return {
        day: reconciliation.fingerprint_inputs(*shared, *entry["files"], *_money.rates_for(rates, day, settings.clean.rate_days))
        for day, entry in entries.items()
    }
