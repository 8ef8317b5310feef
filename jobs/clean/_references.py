"""Reference tables, products and customers: cleaned as a whole, because they are small beside events and orders."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from threading import Lock

import polars as pl
import pyarrow as pa

from jobs.bronze import customers as bronze_customers
from jobs.bronze import events as bronze_events
from jobs.bronze import products as bronze_products
from jobs.clean import _rows, _versions, customers, customers_rejects, events, orders, products, products_rejects
from jobs.config.policy import load_policy
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

_DUE_DAYS = Lock()  # both reference tables are refreshed at the same time, and mark days due in one table

# The bronze columns that a look-up needs.
_PRODUCT_LOOKUPS = ("product_id", "unit_price", "category", "day")
_GUEST_LOOKUPS = ("customer_id", "email_key", "day")
_MAIL_LOOKUPS = ("email_key", "day")


@dataclass(frozen=True)
class Reference:
    """A table that events and orders look up.

    `classify` returns its bronze rows with their outcome, and `build` the table out of these; `inputs` is what that depends
    on besides the rows. `find_validity` returns what each key means and when. `lookups` read the rows (key, day) of other
    tables that look it up, by table.
    """

    bronze: Table
    table: Table
    rejects: Table
    classify: Callable[[pa.Table], pl.DataFrame]
    build: Callable[[pa.Table, pl.DataFrame], pa.Table]
    inputs: list[str]
    find_validity: Callable[[pa.Table], pl.DataFrame]
    lookups: dict[str, Callable[[], pl.DataFrame]]


def product_reference(lake: Lake, settings: Settings, source: Source) -> Reference:
    """Return clean.products as a reference table."""
    missing_price = load_policy(settings.policy).clean["products.price"]
    classify = partial(products.classify_products, currency=source.currency, missing_price=missing_price)
    lookups = {}
    if source.has("orders"):
        lookups[orders.TABLE.name] = partial(_read_lookups, lake, orders.BRONZE, orders.find_product_lookups, _PRODUCT_LOOKUPS)
    return Reference(
        bronze_products.TABLE, products.TABLE, products_rejects.TABLE, classify, products.build_products,
        [] if missing_price == "null" else [missing_price], products.find_product_validity, lookups,
    )  # fmt: skip


def customer_reference(lake: Lake, settings: Settings, source: Source) -> Reference:
    """Return clean.customers as a reference table."""
    find_validity = partial(customers.find_mail_validity, most=settings.clean.max_customers_per_mail)
    lookups = {}
    if source.has("orders"):
        lookups[orders.TABLE.name] = partial(_read_lookups, lake, orders.BRONZE, orders.find_customer_lookups, _GUEST_LOOKUPS)
    if "email_key" in source.columns("events"):
        lookups[events.TABLE.name] = partial(_read_lookups, lake, bronze_events.TABLE, customers.find_lookups, _MAIL_LOOKUPS)
    return Reference(
        bronze_customers.TABLE, customers.TABLE, customers_rejects.TABLE, customers.classify_customers, customers.build_customers,
        [], find_validity, lookups,
    )  # fmt: skip


def _read_lookups(
    lake: Lake, table: Table, find_lookups: Callable[[pa.Table], pl.DataFrame], columns: tuple[str, ...]
) -> pl.DataFrame:
    """Return the rows (key, day) of a bronze table that look up a reference table."""
    return find_lookups(read_rows(lake.root, Rows(table, "day", columns)))


def refresh_reference_table(
    lake: Lake, reference: Reference, landed: dict[str, dict[date, dict]]
) -> list[reconciliation.Account]:  # fmt: skip
    """Clean a reference table again as a whole where any of its files, or what else it depends on, changed.

    Days of events and orders for which a lookup now gives another value become due. They become due before the table
    changes, in case the run dies in between.
    """
    name = reference.table.name.split(".")[1]
    entries = landed.get(name, {})
    inputs = {
        day: reconciliation.fingerprint_inputs(_rows.VERSION, *reference.inputs, *entry["files"])
        for day, entry in entries.items()
    }
    if not inputs or not reconciliation.due_days(lake, reference.table.name, inputs, []):
        lake.create(reference.table)
        return []
    raw = lake.read_arrow(reference.bronze)
    outcomes = reference.classify(raw)
    lake.replace_rows(reference.rejects, _rows.select_rejects(raw, outcomes, reference.rejects))
    rows = reference.build(raw, outcomes)
    _mark_days_due(lake, reference, rows)
    lake.replace_rows(reference.table, rows)
    rows_in = {day: entry["n_rows"][f"bronze.{name}"] for day, entry in entries.items()}
    days = sorted(inputs)
    rows_out = _rows.count_by_day(lake, reference.table.name, days)
    return _rows.account_days(lake, rows_out, reference.rejects, days, rows_in, inputs)


def _mark_days_due(lake: Lake, reference: Reference, rows: pa.Table) -> None:
    """Make the cleaned days due again on which `rows` give another answer to a lookup than the stored rows."""
    before, after = (reference.find_validity(versions) for versions in (lake.read_arrow(reference.table), rows))
    for table, read_lookups in reference.lookups.items():
        revisions = reconciliation.read_revisions(lake, table)
        if revisions and len(changes := _versions.find_changes(before, after, max(revisions))):
            days = _versions.find_affected_days(read_lookups(), changes, before, after, max(revisions))
            with _DUE_DAYS:
                reconciliation.mark_due(lake, table, days)
