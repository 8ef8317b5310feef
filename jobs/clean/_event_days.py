"""Cleaning days of events: sessions, robots, customers; and the earlier or later days whose stored events that changes."""

from datetime import date
from decimal import Decimal

import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.clean import _rows, customers, events, events_rejects, identities, sessions
from jobs.clean._session_days import assign_sessions_of_days, read_events
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.quality import reconciliation
from jobs.storage.lake import Cache, Lake, with_cached_frames


@with_cached_frames
def clean_event_days(
    cache: Cache, lake: Lake, settings: Settings, source: Source, due: list[date], inputs: dict[date, str],
    rows_in: dict[date, int],
) -> list[reconciliation.Account]:  # fmt: skip
    """Clean the events of the days `due`, and restate stored events of other days. Returns the accounts of the days.

    `inputs` are the fingerprints and `rows_in` the bronze rows of all landed days.
    """
    lake.create(events.TABLE)  # stored days may be read below: with every column
    raw = lake.read("bronze.events", due[0], due[-1]).where(F.col("day").isin(*due))
    outcomes = cache(events.classify_events(raw, source.currency, settings.clean.clock_skew_seconds))
    _rows.write_rejects(lake, outcomes, raw, events_rejects.TABLE, due)
    kept = outcomes.where("outcome = 'kept'").drop("rules", "outcome", "_repeated")
    mapped = source.mappings["events"].columns
    in_sessions, later = assign_sessions_of_days(lake, events.flag_bots(kept, settings.clean, mapped), due, settings.clean)
    fresh = in_sessions.where(F.col("day").isin(*due)) if later else in_sessions
    fresh = customers.add_known_customer(fresh, lake.read(customers.TABLE), settings.clean.max_customers_per_mail)
    changes = identities.find_changes(cache, lake, cache(fresh), due, settings.clean) if "visitor_id" in mapped else None
    cleaned = _attach_customers(fresh, changes)
    restated = sorted({*later, *(changes.restated if changes else [])})
    if restated:
        cleaned = cleaned.unionByName(_restate_events(lake, restated, in_sessions, later, changes))
    return _write(lake, settings, cleaned, due, later, restated, inputs, rows_in, changes)


def _write(
    lake: Lake, settings: Settings, cleaned: DataFrame, due: list[date], later: list[date], restated: list[date],
    inputs: dict[date, str], rows_in: dict[date, int], changes: identities.Change | None,
) -> list[reconciliation.Account]:  # fmt: skip
    """Write the events and sessions of the days `due` and `restated`, then the identities. Returns the accounts."""
    name = events.TABLE.name
    # The later days stay due until they have an account again, in case the run dies in between; those whose own files
    # have changed too stay due after it.
    still_due = reconciliation.due_days(lake, name, {day: inputs.get(day, "") for day in later}, [])
    reconciliation.mark_due(lake, name, later)
    lake.replace_days(events.TABLE, cleaned, [*due, *restated])
    sessions.run(lake, [*due, *restated], settings.clean)
    days = sorted({*due, *later}.difference(still_due))
    rows_out = _rows.count_by_day(lake, name, days)
    accounts = _rows.account_days(lake, rows_out, events_rejects.TABLE, days, rows_in, inputs, _count_corrected(lake, days))
    cause = reconciliation.fingerprint_inputs(*(account.inputs for account in accounts))
    reconciliation.mark_restated(lake, name, restated, cause)
    if changes:
        identities.write_changes(lake, changes)
    return accounts


def _attach_customers(fresh: DataFrame, changes: identities.Change | None) -> DataFrame:
    """Return the events of clean.events with their customers; without visitors an event has the customer that it names."""
    if changes:
        named = fresh.withColumn("customer_id", F.col("known_customer_id"))
        return identities.attach_customers(named, changes.links).select(*events.TABLE.columns)
    is_known = F.col("customer_id").isNotNull()
    nulls = {"former_customer_id": F.lit(None).cast("string"), "shared_since": F.lit(None).cast("date")}
    columns = {"signed_in": is_known, "identified_on": F.when(is_known, F.col("day")), **nulls}
    return fresh.withColumns(columns).select(*events.TABLE.columns)


def _restate_events(
    lake: Lake, days: list[date], in_sessions: DataFrame, later: list[date], changes: identities.Change | None
) -> DataFrame:
    """Return the stored events of `days` with the sessions (of the `later` days) and the customers that they have now."""
    stored = read_events(lake, [day for day in days if day not in later])
    if later:
        stored = stored.unionByName(in_sessions.where(F.col("day").isin(*later)).select(*events.TABLE.columns))
    if changes is None:
        return stored
    changed = identities.without_stitching(stored.join(changes.visitors, "visitor_id", "left_semi"))
    changed = identities.attach_customers(changed, changes.links).select(*events.TABLE.columns)
    return changed.unionByName(stored.join(changes.visitors, "visitor_id", "left_anti").select(*events.TABLE.columns))


def _count_corrected(lake: Lake, days: list[date]) -> dict[date, dict[str, Decimal]]:
    """Return the number of events whose clock was corrected, by day."""
    is_corrected = ds.field("day").isin(days) & ds.field("clock_skew_seconds").is_valid()
    counts = lake.count_by(events.TABLE.name, ["day"], is_corrected)
    return {day: {"clock_skew": Decimal(n)} for (day,), n in counts.items()}
