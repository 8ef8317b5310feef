"""Typed, deduplicated, in sessions and in the home currency; what is refused is kept with its rules and counted."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import partial, reduce
from threading import Lock

import pyarrow.dataset as ds
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.bronze import files
from jobs.clean import (
    _money,
    _rows,
    _versions,
    customers,
    customers_rejects,
    events,
    events_rejects,
    identities,
    identity_alarms,
    orders,
    orders_rejects,
    products,
    products_rejects,
    returns,
    sessions,
    visitor_days,
)
from jobs.concurrency import run_in_parallel
from jobs.config import policy
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.errors import UserError
from jobs.progress import format_days
from jobs.quality import reconciliation
from jobs.storage.lake import Cache, Lake, with_cached_frames
from jobs.storage.table import Table

_ONE_AT_A_TIME = Lock()  # products and customers are worked on side by side, the days they make due stand in one table
_VERSION = 5  # raise it when cleaning changes what the same input becomes: every day is then due again


def run(lake: Lake, settings: Settings, source: Source, days: list[date]) -> None:
    """Clean `days`, and every earlier day whose files, mapping or settings have changed since it was cleaned.

    Raises UserError for a day without data and for a day whose rows do not add up.
    """
    last = days[-1]
    landed = {table: files.days(lake, [f"bronze.{table}"]) for table in source.mappings}
    dated = {day for table in ("events", "orders") for day in landed.get(table, {})}
    if not dated & set(days):
        raise UserError(f"clean: no data for {format_days(days)}; {_nearest(dated, last)}")
    references = [_products(lake, settings, source, landed), _customers(lake, settings, source, landed)]
    accounts = run_in_parallel({one.table.name: partial(_refer, lake, one, landed) for one in references})
    rates = _money.rates(lake) if "rates" in source.mappings else {}
    work, n_rows = {}, 0
    for table, clean in (("events", _events), ("orders", _orders)):
        entries = landed.get(table, {})
        asked = [day for day in days if day in entries]
        of_day = rates if table == "orders" else {}
        made_from = (_VERSION, settings.clean, source.currency)
        inputs = {
            day: reconciliation.fingerprint_inputs(
                *made_from, *e["files"], *_money.rates_of(of_day, day, settings.clean.rate_days)
            )
            for day, e in entries.items()
        }
        due = reconciliation.due_days(lake, f"clean.{table}", {d: made for d, made in inputs.items() if d <= last}, asked)
        if due:
            rows_in = {day: e["n_rows"][f"bronze.{table}"] for day, e in entries.items()}
            n_rows += sum(rows_in[day] for day in due)
            work[f"clean.{table}"] = partial(clean, lake, settings, source, due, inputs, rows_in)
    lake.set_shuffle_partitions(n_rows)
    accounts |= run_in_parallel(work)
    for table in (events.TABLE, sessions.TABLE, orders.TABLE, returns.TABLE, visitor_days.TABLE, identities.TABLE):
        lake.create(table)  # so that a source without clicks, or without orders, has them empty
    identity_alarms.run(lake, settings.clean)
    reconciliation.write_accounts(lake, accounts)


@dataclass(frozen=True)
class _Reference:
    """A table that events and orders look things up in, as a whole: products or customers.

    `judged` makes it of its bronze rows, `made_from` is what that depends on beside them; `known` says of its rows what
    holds when, and `askers` which rows (key, day) of other tables ask for that.
    """

    table: Table
    rejects: Table
    judged: Callable[[DataFrame], DataFrame]
    made_from: list[str]
    known: Callable[[DataFrame], DataFrame]
    askers: dict[str, Callable[[], DataFrame]]


def _products(lake: Lake, settings: Settings, source: Source, landed: dict) -> _Reference:
    prices = policy.load_policy(settings.policy).clean["products.price"]
    judged = partial(products.judged, currency=source.currency, missing_price=prices)
    askers = {orders.TABLE.name: lambda: orders.product_lookups(lake.read("bronze.orders"))} if "orders" in landed else {}
    made_from = [] if prices == "null" else [prices]
    return _Reference(products.TABLE, products_rejects.TABLE, judged, made_from, products.known, askers)


def _customers(lake: Lake, settings: Settings, source: Source, landed: dict) -> _Reference:
    known = partial(customers.known, most=settings.clean.max_customers_per_mail)
    askers = {orders.TABLE.name: lambda: orders.customer_lookups(lake.read("bronze.orders"))} if "orders" in landed else {}
    if "events" in landed and "email_key" in source.mappings["events"].columns:
        askers[events.TABLE.name] = lambda: events.customer_lookups(lake.read("bronze.events"))
    return _Reference(customers.TABLE, customers_rejects.TABLE, customers.judged, [], known, askers)


@with_cached_frames
def _refer(keep: Cache, lake: Lake, one: _Reference, landed: dict) -> list[reconciliation.Account]:
    """Small beside the rest, so made anew as a whole when any of its files, or what else it is made from, changed.

    Days of events and orders that find something else in it now are due; they are so before it changes, should the run
    die in between.
    """
    name = one.table.name.split(".")[1]
    entries = landed.get(name, {})
    inputs = {day: reconciliation.fingerprint_inputs(_VERSION, *one.made_from, *entry["files"]) for day, entry in entries.items()}
    if not inputs or not reconciliation.due_days(lake, one.table.name, inputs, []):
        lake.create(one.table)
        return []
    raw = lake.read(f"bronze.{name}")
    judged = keep(one.judged(raw))
    _rows.write_rejects(lake, judged, raw, one.rejects)
    kept = judged.where("outcome = 'kept'").select(*one.table.columns)
    for asker, asking in one.askers.items():
        if cleaned := reconciliation.read_revisions(lake, asker):
            before = lake.read(one.table)
            stale = _versions.days_seen_differently(asking(), one.known(before), one.known(kept), max(cleaned))
            with _ONE_AT_A_TIME:
                reconciliation.mark_due(lake, asker, stale)
    lake.replace(one.table, kept)
    rows_in = {day: entry["n_rows"][f"bronze.{name}"] for day, entry in entries.items()}
    days = sorted(inputs)
    return _rows.accounts(lake, _rows.counted(lake, one.table.name, days), one.rejects, days, rows_in, inputs)


@with_cached_frames
def _events(
    keep: Cache, lake: Lake, settings: Settings, source: Source, due: list[date], inputs: dict, rows_in: dict
) -> list[reconciliation.Account]:
    lake.create(events.TABLE)  # stored days may be read below: with every column
    raw = lake.read("bronze.events", due[0], due[-1]).where(F.col("day").isin(*due))
    judged = keep(events.judged(raw, source.currency, settings.clean.clock_skew_seconds))
    _rows.write_rejects(lake, judged, raw, events_rejects.TABLE, due)
    kept = judged.where("outcome = 'kept'").drop("rules", "outcome", "_repeated")
    mapping = source.mappings["events"].columns
    placed, carried = _in_sessions(lake, events.with_bots(kept, settings.clean, mapping), due, settings)
    fresh = placed.where(F.col("day").isin(*due)) if carried else placed
    named = customers.named(fresh, lake.read(customers.TABLE), settings.clean.max_customers_per_mail)
    people = None
    if "visitor_id" in mapping:
        people = identities.change(keep, lake, keep(named), due, settings.clean)
        found = identities.resolved(named.withColumn("customer_id", F.col("known_customer_id")), people.links)
    else:
        known = F.col("customer_id").isNotNull()
        never = {"former_customer_id": F.lit(None).cast("string"), "shared_since": F.lit(None).cast("date")}
        found = named.withColumns({"signed_in": known, "identified_on": F.when(known, F.col("day")), **never})
    found = found.select(*events.TABLE.columns)
    restated = sorted({*carried, *(people.restated if people else [])})
    if restated:
        found = found.unionByName(_restated(lake, restated, placed, carried, people))
    # due until they are accounted for again, should the run die in between; or because their own files have changed too
    name = events.TABLE.name
    also_due = reconciliation.due_days(lake, name, {day: inputs.get(day, "") for day in carried}, [])
    reconciliation.mark_due(lake, name, carried)
    lake.replace_days(events.TABLE, found, [*due, *restated])
    sessions.run(lake, [*due, *restated], settings.clean)
    done = sorted({*due, *carried}.difference(also_due))
    kept_rows = _rows.counted(lake, name, done)
    accounts = _rows.accounts(lake, kept_rows, events_rejects.TABLE, done, rows_in, inputs, _corrected(lake, done))
    reconciliation.mark_restated(lake, name, restated, reconciliation.fingerprint_inputs(*(a.inputs for a in accounts)))
    if people:
        identities.write(lake, people)
    return accounts


def _in_sessions(lake: Lake, fresh: DataFrame, due: list[date], settings: Settings) -> tuple[DataFrame, list[date]]:
    """The fresh events of `due` in their sessions, with the stored ones of later days whose sessions that changes; those days.

    A day begins with what the day before left open: a change is followed from day to day for as long as it changes a session.
    """
    one, carried = timedelta(days=1), []
    cleaned = set(lake.days(events.TABLE.name))
    while True:
        days = sorted({*due, *carried})
        both = fresh.unionByName(_stored(lake, carried), allowMissingColumns=True) if carried else fresh
        placed = _placed(both, _tail(lake, days, settings), settings)
        following = [day + one for day in days if day + one in cleaned and day + one not in days]
        if not following:
            return placed, carried
        marks = ("session_started_at", "active_since", "bot_rule")
        before = _stored(lake, following).withColumns({f"_{mark}": F.col(mark) for mark in marks})
        after = _placed(before, events.tail(placed, [day - one for day in following], settings.clean), settings)
        differs = reduce(Column.__or__, (~F.col(mark).eqNullSafe(F.col(f"_{mark}")) for mark in marks))
        changed = [row.day for row in after.where(differs).select("day").distinct().collect()]
        if not changed:
            return placed, carried
        carried = sorted([*carried, *changed])


def _placed(kept: DataFrame, tail: DataFrame, settings: Settings) -> DataFrame:
    return events.around_the_clock(events.with_sessions(kept, tail, settings.clean), settings.clean)


def _stored(lake: Lake, days: list[date]) -> DataFrame:
    return lake.read(events.TABLE).where(F.col("day").isin(*days))


def _corrected(lake: Lake, days: list[date]) -> dict[date, dict]:
    """The number of events whose clock was corrected, by day."""
    corrected = ds.field("day").isin(days) & ds.field("clock_skew_seconds").is_valid()
    return {day: {"clock_skew": Decimal(n)} for (day,), n in lake.count_by(events.TABLE.name, ["day"], corrected).items()}


def _restated(
    lake: Lake, days: list[date], placed: DataFrame, carried: list[date], people: identities.Change | None
) -> DataFrame:
    """The stored events of `days`, in the sessions (those of the `carried` days) and with the customers they have now."""
    stored = _stored(lake, [day for day in days if day not in carried])
    if carried:
        stored = stored.unionByName(placed.where(F.col("day").isin(*carried)).select(*events.TABLE.columns))
    if people is None:
        return stored
    theirs = identities.as_sent(stored.join(people.visitors, "visitor_id", "left_semi"))
    found = identities.resolved(theirs, people.links).select(*events.TABLE.columns)
    return found.unionByName(stored.join(people.visitors, "visitor_id", "left_anti").select(*events.TABLE.columns))


def _tail(lake: Lake, due: list[date], settings: Settings) -> DataFrame:
    """Stored events of the day before a worked-on day that are recent enough for their session to go on."""
    eves = {day - timedelta(days=1) for day in due}.difference(due)
    return events.tail(lake.read(events.TABLE), eves, settings.clean)


@with_cached_frames
def _orders(
    keep: Cache, lake: Lake, settings: Settings, source: Source, due: list[date], inputs: dict, rows_in: dict
) -> list[reconciliation.Account]:
    raw = lake.read("bronze.orders", due[0], due[-1]).where(F.col("day").isin(*due))
    rates = lake.read("bronze.rates") if "rates" in source.mappings else lake.spark.createDataFrame([], _NO_RATES)
    known = (lake.read(products.TABLE), lake.read(customers.TABLE))
    per_mail, rate_days = settings.clean.max_customers_per_mail, settings.clean.rate_days
    judged = keep(orders.judged(raw, *known, rates, source.currency, per_mail, rate_days))
    _rows.write_rejects(lake, judged, raw, orders_rejects.TABLE, due)
    rewritten = orders.write(lake, judged, due)
    measures = _money.measures(lake, judged, due)
    _money.check_returns(lake, rewritten)
    # every accepted row is an order line, or a return line that may stand on several rows
    within = ds.field("day").isin(due)
    lines = lake.count_by(orders.TABLE.name, ["day"], within & (ds.field("quantity") > Decimal("0.0000")))
    undone = lake.count_by(returns.TABLE.name, ["day", "return_order_id", "return_line_no"], within)
    kept = Counter({day: n for (day,), n in lines.items()}) + Counter(day for day, *_ in undone)
    return _rows.accounts(lake, kept, orders_rejects.TABLE, due, rows_in, inputs, measures)


_NO_RATES = "rated_on STRING, currency STRING, rate STRING, _file STRING, _row BIGINT"


def _nearest(dated: set[date], day: date) -> str:
    earlier = [d for d in dated if d < day]
    return f"the last day before it with data is {max(earlier)}" if earlier else "nothing was landed for an earlier day either"
