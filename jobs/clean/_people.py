"""Whom customer ids and e-mail addresses name, from day to day, and which days that changes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

import polars as pl
import pyarrow as pa

from jobs.bronze import events as bronze_events
from jobs.bronze import orders as bronze_orders
from jobs.business_day import FOREVER
from jobs.clean import _ids, _rows, customers, identity_alarms, identity_days
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.engine.runner import Result, count_buckets, open_runner
from jobs.engine.tasks import COLLECT, Write
from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows

_BRONZE = {"events": bronze_events.TABLE, "orders": bronze_orders.TABLE}
_HOLDER = ["email_key", "customer_id", "day"]
_BUCKET_SIZE = 4  # times that of the other kernels: four narrow columns are read


@dataclass(frozen=True)
class People:
    """Whom ids and addresses name.

    `mails`: email_key, owner, since, until (exclusive). `merges`: customer_id, owner, since. `shared`: customer_id, since.
    """

    mails: pl.DataFrame
    merges: pl.DataFrame
    shared: pl.DataFrame


def list_people(accounts: pa.Table, learned: pl.DataFrame | None, shared: pl.DataFrame, most: int) -> People:
    """Return whom ids and addresses name by clean.customers and the other arguments of customers.find_mail_owners."""
    mails = customers.find_mail_owners(accounts, most, learned, shared)
    return People(mails, customers.find_merges(accounts), shared)


def read_people(lake: Lake, settings: Settings, source: Source) -> People:
    """Return whom ids and addresses name by the stored tables."""
    accounts = lake.read_arrow(customers.TABLE)
    learned = read_learned(lake, source)
    return list_people(accounts, learned, identity_alarms.read_shared_customers(lake), settings.clean.max_customers_per_mail)


def read_learned(lake: Lake, source: Source) -> pl.DataFrame | None:
    """Return who orders and events show to hold an address (email_key, customer_id, day), None where a customers file says it."""
    return _read_holders(lake, []) if learns_addresses(source) else None


def learns_addresses(source: Source) -> bool:
    """Return whether orders and events say who holds an address, because no customers file does."""
    has_addresses = any("email_key" in source.columns(table) for table in _BRONZE)
    return has_addresses and "email_key" not in source.columns("customers")


def name_customers(rows: pl.DataFrame, people: People) -> pl.DataFrame:
    """Add whom a row (position, customer_id, email_key, day) names: known_customer_id on its day, and what that becomes later.

    Where another customer or nobody is named from a later day on, `later_since` is that day and `later_customer_id` whom it names
    then. `customer_id` is null where guests share it on the day.
    """
    named = customers.add_known_customer(rows, people.mails, people.shared)
    later = _find_later_names(named.select("position", "customer_id", "known_customer_id", "email_key", "day"), people)
    if later.is_empty():
        return named.with_columns(later_customer_id=pl.lit(None, pl.String), later_since=pl.lit(None, pl.Date))
    return named.join(later, "position", "left", maintain_order="left")


def _find_later_names(named: pl.DataFrame, people: People) -> pl.DataFrame:
    """Return the rows that name somebody else later: position, later_customer_id, later_since."""
    no_rows = pl.DataFrame(schema={"position": pl.UInt32, "later_customer_id": pl.String, "later_since": pl.Date})
    parts = [no_rows]
    if not people.shared.is_empty():
        losing = named.join(people.shared, "customer_id", "inner")
        owned = losing.join(people.mails.rename({"since": "from"}), "email_key", "inner")
        owners = owned.filter((pl.col("from") <= pl.col("since")) & (pl.col("until") > pl.col("since"))).select(
            "position", "owner"
        )
        lost = losing.join(owners, "position", "left")
        parts.append(lost.select("position", later_customer_id="owner", later_since="since"))
    if not people.mails.is_empty():
        unknown = named.filter(pl.col("known_customer_id").is_null() & pl.col("email_key").is_not_null())
        owned = unknown.select("position", "email_key", "day").join(people.mails, "email_key", "inner")
        first = owned.filter(pl.col("since") > pl.col("day")).sort("position", "since").unique("position", keep="first")
        parts.append(first.select("position", later_customer_id="owner", later_since="since"))
    return pl.concat(parts)


def refresh_people(
    lake: Lake, settings: Settings, source: Source, landed: dict[str, dict[date, dict]], null_words: _ids.NullWords,
    last_day: date, accounts: pa.Table, mark_due: Callable[[str, Collection[date]], None],
) -> list[reconciliation.Account]:  # fmt: skip
    """Bring clean.identity_days and the alarms of shared ids up to date, and make the days due that name somebody else by that.

    `accounts` are the rows that clean.customers is to have, and `mark_due` takes a table and days. Days become due before a table
    changes, in case the run dies in between. Returns the accounts of the days of clean.identity_days.
    """
    before = read_people(lake, settings, source)
    entries = {name: landed.get(name, {}) for name in _BRONZE}
    inputs = {
        day: reconciliation.fingerprint_inputs(
            _rows.VERSION, _ids.describe(null_words), settings.clean.max_mails_per_customer,
            settings.clean.customers_within_days, settings.clean.shared_customer_least, settings.clean.shared_customer_factor,
            *(file for name in _BRONZE for file in entries[name].get(day, {"files": []})["files"]),
        )
        for day in {day for days in entries.values() for day in days if day <= last_day}
    }  # fmt: skip
    due = reconciliation.due_days(lake, identity_days.TABLE.name, inputs, [])
    shared, learned = before.shared, _read_holders(lake, due) if learns_addresses(source) else None
    opened = lake.open_for_write(identity_days.TABLE)
    files = None
    if due:
        result = _list_identities(lake, settings, entries, due, null_words)
        files = result.files["rows"]
        shared = _find_shared_customers(lake, settings, result, due)
        if learned is not None:
            learned = pl.concat([learned, _rows.to_frame(result.collected["holders"])])
    after = list_people(accounts, learned, shared.select("customer_id", "since"), settings.clean.max_customers_per_mail)
    for table, days in _find_due_days(lake, before, after).items():
        mark_due(f"clean.{table}", days)
    if files is None:
        return []
    identity_alarms.write_shared_customers(lake, shared)
    opened.commit(files, due)
    n_rows = _rows.count_by_day(lake, identity_days.TABLE.name, due)
    return [reconciliation.Account(day, n_rows.get(day, 0), n_rows.get(day, 0), inputs[day]) for day in due]


def _list_identities(
    lake: Lake, settings: Settings, entries: dict[str, dict[date, dict]], due: list[date], null_words: _ids.NullWords
) -> Result:
    """Return the outputs of identity_days.list_identities for the due days; the rows are in files that are not committed."""
    n_rows = sum(entries[name][day]["n_rows"][f"bronze.{name}"] for name in _BRONZE for day in due if day in entries[name])
    reach = timedelta(days=settings.clean.customers_within_days)
    around = {day for day in lake.days(identity_days.TABLE.name) if day > min(due) - reach}.difference(due)
    with open_runner(lake, settings, n_rows) as runner:
        key = partial(identity_days.find_identity, null_words=null_words)
        named = {
            name: Rows(table, key, identity_days.columns_of(name), [day for day in due if day in entries[name]])
            for name, table in _BRONZE.items()
        }
        stored = Rows(identity_days.TABLE, identity_days.find_stored_identity, days=around)
        kernel = partial(identity_days.list_identities, settings=settings.clean, null_words=null_words)
        outputs = {
            "rows": Write(identity_days.TABLE, gather=True),
            **dict.fromkeys(("holders", "shared", "counts", "largest"), COLLECT),
        }
        return runner.run(kernel, runner.read({**named, "stored": stored}, count_buckets(n_rows // _BUCKET_SIZE)), outputs)


def _find_shared_customers(lake: Lake, settings: Settings, result: Result, due: list[date]) -> pl.DataFrame:
    """Return the ids that guests share: customer_id, since, n. Those of days before the due ones are as they are stored."""
    earlier = identity_alarms.read_shared_customers(lake, with_n=True).filter(pl.col("since") < min(due))
    frames = {name: _rows.to_frame(result.collected[name]) for name in ("shared", "counts", "largest")}
    far = identity_days.find_far_larger(frames["counts"], frames["largest"], settings.clean)
    recent = pl.concat([frames["shared"], far]).filter(pl.col("since") >= min(due))
    return identity_days.take_first(pl.concat([earlier, recent]))


def _read_holders(lake: Lake, without: list[date]) -> pl.DataFrame:
    """Return who was named together with an address on the stored days, but for some: email_key, customer_id, day."""
    days = set(lake.days(identity_days.TABLE.name)).difference(without)
    rows = _rows.to_frame(read_rows(lake.root, Rows(identity_days.TABLE, "customer_id", tuple(_HOLDER), days)))
    return rows.drop_nulls(["email_key", "customer_id"]).select(_HOLDER)


def _find_due_days(lake: Lake, before: People, after: People) -> dict[str, set[date]]:
    """Return the days of events and of orders on which a row names somebody else by `after` than by `before`, now or later."""
    due: dict[str, set[date]] = {name: set() for name in _BRONZE}
    for key, (old, new) in {
        "email_key": (before.mails, after.mails),
        "customer_id": (_as_spans(before), _as_spans(after)),
    }.items():
        columns = old.columns
        changed = pl.concat([old.join(new, columns, "anti", nulls_equal=True), new.join(old, columns, "anti", nulls_equal=True)])
        if changed.is_empty():
            continue
        keys = changed[key].unique().to_arrow().cast("string")
        asked = _rows.to_frame(read_rows(lake.root, Rows(identity_days.TABLE, key, ("day", "named_in", key), only=keys))).unique()
        answers = [_look_up(asked, spans, key) for spans in (old, new)]
        differing = pl.concat([a.join(b, a.columns, "anti", nulls_equal=True) for a, b in (answers, reversed(answers))])
        for name, day in differing.select("named_in", "day").unique().iter_rows():
            due[name].add(day)
    return due


def _as_spans(people: People) -> pl.DataFrame:
    """Return the shared and the merged ids with their owners: customer_id, owner, since, until."""
    changes = pl.concat([people.merges, people.shared.select("customer_id", pl.lit(None, pl.String).alias("owner"), "since")])
    until = pl.col("since").shift(-1).over("customer_id").fill_null(FOREVER)
    return changes.sort("customer_id", "since").with_columns(until=until)


def _look_up(asked: pl.DataFrame, spans: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return what each key means from each day on: all spans that end after it, none of them beginning before it."""
    held = asked.join(spans, key, "inner").filter(pl.col("until") > pl.col("day"))
    return held.with_columns(since=pl.max_horizontal("since", "day"))
