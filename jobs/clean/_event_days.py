"""Cleaning days of events: sessions, robots, customers; and the earlier or later days whose stored events that changes."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.bronze import events as bronze_events
from jobs.clean import _ids, _people, _robots, _rows, events, events_rejects, identities, sessions, visitor_days
from jobs.config.policy import load_policy
from jobs.config.settings import Clean, Settings
from jobs.config.source_mapping import Source
from jobs.engine.runner import Result, Runner, count_buckets, open_runner
from jobs.engine.tasks import COLLECT, KEEP, Write
from jobs.quality import reconciliation
from jobs.storage.commits import File, OpenTable
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows

_ONE_DAY = timedelta(days=1)
_TABLES = (events.TABLE, events_rejects.TABLE, sessions.TABLE, visitor_days.TABLE, identities.TABLE)


@dataclass
class _Context:
    """What the cleaning of some days is done with: the same for each of its steps."""

    lake: Lake
    runner: Runner
    inputs: events.Inputs
    due: list[date]
    n_buckets: int
    later: list[date] = field(default_factory=list)  # days after whose stored events get other sessions

    @property
    def settings(self) -> Clean:
        """The settings of cleaning."""
        return self.inputs.settings

    def read(self, **inputs: Rows) -> dict[str, Any]:
        """Return rows of stored tables in buckets by visitor."""
        return self.runner.read(inputs, self.n_buckets)


def clean_event_days(
    lake: Lake, settings: Settings, source: Source, due: list[date], inputs: dict[date, str], rows_in: dict[date, int]
) -> list[reconciliation.Account]:
    """Clean the events of the days `due`, and restate stored events of other days. Returns the accounts of the days.

    `inputs` are the fingerprints and `rows_in` the bronze rows of all landed days.
    """
    n_rows = sum(rows_in[day] for day in due)
    with open_runner(lake, settings, n_rows) as runner:
        context = _Context(lake, runner, _read_inputs(lake, settings, source), due, count_buckets(n_rows, at_once=2))
        opened = {table.name: lake.open_for_write(table) for table in _TABLES}
        classified = _classify(context)
        opened[events_rejects.TABLE.name].commit(classified.files["rejects"], due)
        cleaned = _clean_visitors(context, classified)
        restated = sorted({*context.later, *_days_changed(cleaned, "events")})
        # The later days stay due until they have an account again, in case the run dies in between; those whose own files
        # have changed too stay due after it.
        still_due = reconciliation.due_days(lake, events.TABLE.name, {day: inputs.get(day, "") for day in context.later}, [])
        reconciliation.mark_due(lake, events.TABLE.name, context.later)
        opened[events.TABLE.name].commit(_gather_events(context, cleaned, restated), [*due, *restated])
        _write_sessions(context, opened[sessions.TABLE.name], [*due, *restated])
        accounts = _account(context, sorted({*due, *context.later}.difference(still_due)), inputs, rows_in, classified)
        cause = reconciliation.fingerprint_inputs(*(account.inputs for account in accounts))
        reconciliation.mark_restated(lake, events.TABLE.name, restated, cause)
        reconciliation.mark_due(lake, events.TABLE.name, _find_days_that_repeat(context, cleaned))
        # The last to be written: until then a run that was killed finds the same restated days again.
        opened[visitor_days.TABLE.name].commit(cleaned.files["visitor_days"], due)
        _write_links(context, opened[identities.TABLE.name], cleaned)
        return accounts


def _read_inputs(lake: Lake, settings: Settings, source: Source) -> events.Inputs:
    mapped = source.columns("events")
    null_words = load_policy(settings.policy).null_words
    people = _people.read_people(lake, settings, source)
    return events.Inputs(people, source.currency, settings.clean, mapped, null_words, settings.business_time_zone)


def _classify(context: _Context) -> Result:
    """Type the bronze rows of the due days, and choose those to keep."""
    kernel = partial(events.classify_events, inputs=context.inputs)
    outputs = {
        "kept": KEEP, **dict.fromkeys(("visitors", "fingerprints", "agents", "corrections"), COLLECT),
        "rejects": Write(events_rejects.TABLE, gather=True),
    }  # fmt: skip
    reach = context.settings.transaction_days
    before = {day - timedelta(days=n) for day in context.due for n in range(1, reach + 1)}.difference(context.due)
    days = before.intersection(context.lake.days(visitor_days.TABLE.name))
    find_visitors = partial(events.find_visitors, null_words=context.inputs.null_words)
    rows = context.read(
        raw=Rows(bronze_events.TABLE, find_visitors, days=context.due),
        earlier=Rows(visitor_days.TABLE, "visitor_id", ("visitor_id", "day", "purchases"), days),
    )
    return context.runner.run(kernel, rows, outputs)


def _find_days_that_repeat(context: _Context, cleaned: Result) -> list[date]:
    """Return the later days with purchases that the due days, as they are now, came to hold or no longer hold."""
    reach = timedelta(days=context.settings.transaction_days)
    cleaned_days = reconciliation.read_revisions(context.lake, events.TABLE.name)
    later = {day for day in cleaned_days if any(due < day <= due + reach for due in context.due)}.difference(context.due)
    if not later:
        return []
    before = _read_purchases(context, context.due)
    after = visitor_days.list_purchases(_rows.to_frame(cleaned.collected["purchases"]))
    pairs = ((before, after), (after, before))
    changed = pl.concat([rows.join(others, before.columns, "anti", nulls_equal=True) for rows, others in pairs])
    if changed.is_empty():
        return []
    transactions = set(changed["transaction_id"])
    rejects = context.lake.read_small_table(
        events_rejects.TABLE, ["day", "order_id", "event_id", "rules"], ds.field("day").isin(list(later))
    )
    refused = {
        row["day"]
        for row in rejects
        if row["rules"][0] == "same_transaction" and {row["order_id"], row["event_id"]} & transactions
    }
    kept = _read_purchases(context, sorted(later))
    return sorted(refused.union(kept.filter(pl.col("transaction_id").is_in(list(transactions)))["day"]))


def _read_purchases(context: _Context, days: list[date]) -> pl.DataFrame:
    """Return the purchases of stored days (visitor_days.list_purchases)."""
    rows = read_rows(context.lake.root, Rows(visitor_days.TABLE, "visitor_id", ("visitor_id", "day", "purchases"), days))
    return visitor_days.list_purchases(_rows.to_frame(rows))


def _clean_visitors(context: _Context, classified: Result) -> Result:
    """Clean the typed events of the due days, and follow their sessions into later days for as long as these change."""
    agents = pl.Series(pl.from_arrow(classified.collected["agents"]["user_agent"])).unique()
    fingerprints = _rows.to_frame(classified.collected["fingerprints"])
    fleets = _robots.find_fleets(fingerprints, context.settings)
    crawlers = _robots.find_crawlers(agents, context.settings.app_agents)
    kernel = partial(events.clean_visitors, fleets=fleets, crawlers=crawlers, inputs=context.inputs)
    outputs = {
        "events": Write(events.TABLE, gather=True), "visitor_days": Write(visitor_days.TABLE, gather=True), "links": KEEP,
        "linked": KEEP, "changes": COLLECT, "purchases": COLLECT,
    }  # fmt: skip
    cleaned_days = set(context.lake.days(events.TABLE.name))
    concerned = _find_concerned_visitors(context, classified.collected["visitors"])
    while True:
        days = {*context.due, *context.later}
        following = {day + _ONE_DAY for day in days if day + _ONE_DAY in cleaned_days}.difference(days)
        stored = _read_stored(context, sorted({*context.later, *following}), concerned)
        result = context.runner.run(kernel, {"kept": classified.kept["kept"], **stored}, outputs)
        changed = following.intersection(_days_changed(result, "later"))
        if not changed:
            return result
        context.later = sorted({*context.later, *changed})
        for table, name in ((events.TABLE, "events"), (visitor_days.TABLE, "visitor_days")):
            context.lake.discard(table, result.files[name])


def _read_stored(context: _Context, later: list[date], concerned: pa.Array) -> dict[str, Any]:
    """Return what clean_visitors is given of stored tables, `later` being the days after that it looks at."""
    eves = {day - _ONE_DAY for day in (*context.due, *later)}.difference(context.due, later)
    other_days = set(context.lake.days(visitor_days.TABLE.name)).difference(context.due) if len(concerned) else ()
    return context.read(
        open=Rows(events.TABLE, "visitor_id", events.OPEN_COLUMNS, eves),
        later=Rows(events.TABLE, "visitor_id", days=later),
        visitor_days=Rows(visitor_days.TABLE, "visitor_id", days=other_days, only=concerned),
        links=Rows(identities.TABLE, "visitor_id", days=None if len(concerned) else (), only=concerned),
    )


def _find_concerned_visitors(context: _Context, visitors: pa.Table) -> pa.Array:
    """Return the visitors of the due days, now or as stored, on whom a customer is or was known; none where none is stored."""
    if "visitor_id" not in context.inputs.mapped or not context.lake.days(visitor_days.TABLE.name):
        return pa.array([], pa.string())
    stored = read_rows(context.lake.root, Rows(visitor_days.TABLE, "visitor_id", ("visitor_id",), context.due))
    present = pa.chunked_array([*visitors["visitor_id"].cast(pa.string()).chunks, *stored["visitor_id"].chunks], pa.string())
    linked = read_rows(context.lake.root, Rows(identities.TABLE, "visitor_id", ("visitor_id",), only=present.unique()))
    named = visitors.filter(visitors["is_named"])["visitor_id"].cast(pa.string())
    return pa.chunked_array([*named.chunks, *linked["visitor_id"].chunks], pa.string()).unique()


def _days_changed(result: Result, kind: str) -> list[date]:
    return sorted({row["day"] for row in result.collected["changes"].to_pylist() if row["kind"] == kind})


def _gather_events(context: _Context, cleaned: Result, restated: list[date]) -> list[File]:
    """Return the files of the due and the restated days; the stored events of other days get their customers anew."""
    days = {str(day) for day in (*context.due, *context.later, *restated)}
    files = [file for file in cleaned.files["events"] if file.partition["day"] in days]
    looked_at = {date.fromisoformat(file.partition["day"]) for file in cleaned.files["events"]}
    context.lake.discard(events.TABLE, [file for file in cleaned.files["events"] if file not in files])
    if others := sorted(set(restated).difference(looked_at)):
        stored = context.read(events=Rows(events.TABLE, "visitor_id", days=others))
        inputs = {**stored, "links": cleaned.kept["links"], "linked": cleaned.kept["linked"]}
        files += context.runner.run(events.restate_events, inputs, {"events": Write(events.TABLE, gather=True)}).files["events"]
    return files


def _write_sessions(context: _Context, opened: OpenTable, cleaned: list[date]) -> None:
    """Write the sessions that may have an event on one of the cleaned days."""
    began, days = sessions.days_began(cleaned, context.settings, context.inputs.time_zone)
    stored = context.read(events=Rows(events.TABLE, "visitor_id", sessions.EVENT_COLUMNS, days))
    kernel = partial(sessions.summarize_sessions, began=frozenset(began), time_zone=context.inputs.time_zone)
    written = context.runner.run(kernel, stored, {"sessions": Write(sessions.TABLE, gather=True)})
    opened.commit(written.files["sessions"], began)


def _write_links(context: _Context, opened: OpenTable, cleaned: Result) -> None:
    """Write the days of links that have changed: the new links of the visitors worked on, and those of all others as they are."""
    if not (changed := _days_changed(cleaned, "links")):
        return
    stored = context.read(stored=Rows(identities.TABLE, "visitor_id", days=changed))
    inputs = {**stored, "links": cleaned.kept["links"], "linked": cleaned.kept["linked"]}
    kernel = partial(identities.replace_links, days=frozenset(changed))
    written = context.runner.run(kernel, inputs, {"links": Write(identities.TABLE, gather=True)})
    # Links without a day were written by a version that had none; all their visitors are worked on anew.
    opened.commit(written.files["links"], [*changed, None])


def _account(
    context: _Context, days: list[date], inputs: dict[date, str], rows_in: dict[date, int], classified: Result
) -> list[reconciliation.Account]:
    """Return the account of each day, with the number of events whose clock and of ids that were corrected."""
    name = events.TABLE.name
    is_corrected = ds.field("day").isin(days) & ds.field("clock_skew_seconds").is_valid()
    corrected = {day: {"clock_skew": Decimal(n)} for (day,), n in context.lake.count_by(name, ["day"], is_corrected).items()}
    ids = _ids.group_measures(_rows.to_frame(classified.collected["corrections"]))
    _ids.log_corrections(name, ids.values())
    measures = {day: corrected.get(day, {}) | ids.get(day, {}) for day in days}
    rows_out = _rows.count_by_day(context.lake, name, days)
    return _rows.account_days(context.lake, rows_out, events_rejects.TABLE, days, rows_in, inputs, measures)
