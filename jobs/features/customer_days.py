"""features.customer_days: one row per customer, day, and days from and until which this is known of that day.

Inputs: clean.events without robots, clean.orders by order date, clean.returns by refund date. The columns are the
daily aggregates of jobs/catalogue/, all of which can be merged: a refresh computes the days that changed and reads the rest.

`identified_on` is later than the day where a visitor's earlier events got their customer only later, and where a session
went on after midnight: as of a day before that, the customer does not have them. A later row holds the difference to the
earlier rows, so that the rows known by a day add up to what was known on that day.

`known_until` ends three things. Events of a device count until it was known to be shared by too many customers; a row of its
own has what is left. An order counts until all its products were cancelled; its money stays on its day, and the money
given back on the day of that. A version of an order counts until the next one was known.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import date, timedelta
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs import business_day, catalogue
from jobs.catalogue import DailyAggregate
from jobs.clean import events as clean_events
from jobs.clean import orders as clean_orders
from jobs.clean import returns as clean_returns
from jobs.config.settings import Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Call, Write
from jobs.features import _holidays
from jobs.features._daily_steps import EVENTS, HISTOGRAMS, ORDERS, RETURNS, write_results, write_steps
from jobs.features._query import BUCKET_SIZE, run_steps
from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, Scan
from jobs.storage.table import Table

EVENTS_SCHEMA = Rows(clean_events.TABLE, "customer_id", EVENTS).schema


def _declared(aggregate: DailyAggregate) -> str:
    required = " NOT NULL" if aggregate.operation == "sum" else ""
    return f"{aggregate.name} {aggregate.sql_type}{required} COMMENT '{aggregate.meaning}'"


SCHEMA = ",\n    ".join(
    [
        "customer_id STRING NOT NULL COMMENT 'customer'",
        "day DATE NOT NULL COMMENT 'day, in the business time zone'",
        "identified_on DATE NOT NULL COMMENT 'day from which this is known of the day'",
        "known_until DATE NOT NULL COMMENT 'day from which it no longer holds: a device shared by too many, an order cancelled "
        "or changed; 9999-12-31 for what stays'",
        *map(_declared, catalogue.DAILY_AGGREGATES),
    ]
)
TABLE = Table(
    "features.customer_days", __doc__.split("\n\n")[0], SCHEMA, "day",
    {"adds_up": "net = gross - discount - returned", "known_later": "identified_on >= day AND known_until > identified_on"},
)  # fmt: skip
_VERSION = 7  # raise it when the same clean rows become other daily aggregates: every day is then due again


def aggregate_customer_days(
    tables: dict[str, pa.Table | Scan], due: Collection[date], holidays: Collection[date], time_zone: str = business_day.UTC
) -> dict[str, pa.Table]:
    """Return features.customer_days of the days `due` as `customer_days`; `holidays` are the days near a public one, and
    hours are those of `time_zone`.

    Key: customer, or these days. Inputs: `events` of these days and of those into which a session may go on, `moved`, those of
    them that were given to another customer before (none where it is left out), `orders` and `returns` of these days, with the
    columns EVENTS, ORDERS and RETURNS. Sorted by day and customer. About 2 µs of CPU an event.
    """
    days = {
        name: pa.table({"day": pa.array(sorted(values), pa.date32())}) for name, values in (("due", due), ("holidays", holidays))
    }
    tables = {"moved": EVENTS_SCHEMA.empty_table(), **tables}
    results = run_steps({**tables, **days}, write_steps(time_zone), write_results(), views=("known_events", "sold_lines"))
    rows = results["customer_days"]
    for p in HISTOGRAMS:
        rows = rows.append_column(p.name, _to_lists(rows[f"n_{p.name}"], results[p.name]))
    return {"customer_days": rows.select(TABLE.columns)}


def _to_lists(lengths: pa.ChunkedArray, values: pa.Table) -> pa.Array:
    """Return a list of so many of the values for each row, one after the other; null where the length is null."""
    n_values = pc.fill_null(lengths, 0)
    starts = pc.if_else(pc.is_valid(lengths), pc.subtract(pc.cumulative_sum(n_values), n_values), None)
    offsets = pa.chunked_array([*starts.chunks, pa.array([values.num_rows], pa.int32())]).combine_chunks()
    return pa.ListArray.from_arrays(offsets, values.to_struct_array().combine_chunks())


def find_customers(events: pa.Table) -> pa.Array:
    """Return the customer whose daily aggregates each event may change; those that it moved from have it in `moved`."""
    return pc.coalesce(events["customer_id"], events["former_customer_id"])


def run(lake: Lake, settings: Settings, days: list[date]) -> None:
    """Bring the daily aggregates up to date for `days` and for every earlier day whose clean rows have changed."""
    zone = settings.business_time_zone
    reach = range(business_day.count_session_days(settings.clean.session_max_hours, zone))
    of_events, of_orders = (reconciliation.read_revisions(lake, table) for table in ("clean.events", "clean.orders"))
    known_days = {day for day in {*of_events, *of_orders} if day <= days[-1]}
    holidays = _holidays.days_near_holidays(settings.features.holiday_country, known_days)
    inputs = {
        day: reconciliation.fingerprint_inputs(
            _VERSION, of_orders.get(day, ""), day in holidays, *(of_events.get(_after(day, n), "") for n in reach)
        )
        for day in known_days
    }
    due = reconciliation.due_days(lake, TABLE.name, inputs, days)
    if not due:
        return
    rows_per_day = lake.count_rows_by_day("clean.events") + lake.count_rows_by_day("clean.orders")
    calls = []
    for portion in split_days(due, rows_per_day):
        n_buckets = count_buckets(sum(rows_per_day[day] for day in portion) // BUCKET_SIZE)
        kernel = partial(aggregate_customer_days, due=portion, holidays=holidays, time_zone=zone)
        rows = _list_rows(portion, {_after(day, n) for day in portion for n in reach})
        calls += [Call(kernel, rows, bucket, n_buckets) for bucket in range(n_buckets)]
    opened = lake.open_for_write(TABLE)
    with open_runner(lake, settings, sum(rows_per_day[day] for day in due)) as runner:
        written = runner.run_calls(calls, {"customer_days": Write(TABLE)})
        opened.commit(written.files["customer_days"], due)
    n_rows = lake.count_rows_by_day(TABLE.name)
    accounts = [reconciliation.Account(d, n_rows[d], n_rows[d], inputs[d]) for d in due]
    reconciliation.write_accounts(lake, {TABLE.name: accounts})


def _list_rows(due: list[date], days_of_sessions: set[date]) -> dict[str, Rows]:
    return {
        "events": Rows(clean_events.TABLE, find_customers, EVENTS, days_of_sessions, scan=True),
        "moved": Rows(clean_events.TABLE, "former_customer_id", EVENTS, days_of_sessions, where=is_moved()),
        "orders": Rows(clean_orders.TABLE, "customer_id", ORDERS, due, scan=True),
        "returns": Rows(clean_returns.TABLE, "customer_id", RETURNS, due, scan=True),
    }


def is_moved() -> ds.Expression:
    """Return the condition of events that were given to another customer before."""
    return ds.field("former_customer_id").is_valid() & ds.field("customer_id").is_valid()


def split_days(days: Collection[date], rows_per_day: Counter) -> Iterator[list[date]]:
    """Yield the days in portions that a worker holds, or of a single day."""
    portion: list[date] = []
    for day in sorted(days):
        if portion and count_buckets(sum(rows_per_day[d] for d in (*portion, day)) // BUCKET_SIZE) > 1:
            yield portion
            portion = []
        portion.append(day)
    if portion:
        yield portion


def _after(day: date, days: int) -> date:
    return day + timedelta(days=days)
