"""Reference tables, products and customers: cleaned as a whole, because they are small beside events and orders."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from threading import Lock

from pyspark.sql import DataFrame

from jobs.clean import _rows, _versions, customers, customers_rejects, events, orders, products, products_rejects
from jobs.config.policy import load_policy
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.quality import reconciliation
from jobs.storage.lake import Cache, Lake, with_cached_frames
from jobs.storage.table import Table

_DUE_DAYS = Lock()  # both reference tables are refreshed at the same time, and mark days due in one table


@dataclass(frozen=True)
class Reference:
    """A table that events and orders look up.

    `classify` returns its bronze rows with their outcome; `inputs` is what that depends on besides the rows. `validity`
    returns what each key means and when. `lookups` are the rows (key, day) of other tables that look it up, by table.
    """

    table: Table
    rejects: Table
    classify: Callable[[DataFrame], DataFrame]
    inputs: list[str]
    validity: Callable[[DataFrame], DataFrame]
    lookups: dict[str, Callable[[], DataFrame]]


def product_reference(lake: Lake, settings: Settings, source: Source) -> Reference:
    """Return clean.products as a reference table."""
    missing_price = load_policy(settings.policy).clean["products.price"]
    classify = partial(products.classify_products, currency=source.currency, missing_price=missing_price)
    lookups = {}
    if "orders" in source.mappings:
        lookups[orders.TABLE.name] = lambda: orders.product_lookups(lake.read("bronze.orders"))
    inputs = [] if missing_price == "null" else [missing_price]
    return Reference(products.TABLE, products_rejects.TABLE, classify, inputs, products.product_validity, lookups)


def customer_reference(lake: Lake, settings: Settings, source: Source) -> Reference:
    """Return clean.customers as a reference table."""
    validity = partial(customers.mail_validity, most=settings.clean.max_customers_per_mail)
    lookups = {}
    if "orders" in source.mappings:
        lookups[orders.TABLE.name] = lambda: orders.customer_lookups(lake.read("bronze.orders"))
    if "events" in source.mappings and "email_key" in source.mappings["events"].columns:
        lookups[events.TABLE.name] = lambda: events.customer_lookups(lake.read("bronze.events"))
    return Reference(customers.TABLE, customers_rejects.TABLE, customers.classify_customers, [], validity, lookups)


@with_cached_frames
def refresh_reference_table(
    cache: Cache, lake: Lake, reference: Reference, landed: dict[str, dict[date, dict]]
) -> list[reconciliation.Account]:
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
    raw = lake.read(f"bronze.{name}")
    outcomes = cache(reference.classify(raw))
    _rows.write_rejects(lake, outcomes, raw, reference.rejects)
    kept = outcomes.where("outcome = 'kept'").select(*reference.table.columns)
    for table, lookups in reference.lookups.items():
        if revisions := reconciliation.read_revisions(lake, table):
            before, after = reference.validity(lake.read(reference.table)), reference.validity(kept)
            days = _versions.days_affected_by(lookups(), before, after, max(revisions))
            with _DUE_DAYS:
                reconciliation.mark_due(lake, table, days)
    lake.replace(reference.table, kept)
    rows_in = {day: entry["n_rows"][f"bronze.{name}"] for day, entry in entries.items()}
    days = sorted(inputs)
    rows_out = _rows.count_by_day(lake, reference.table.name, days)
    return _rows.account_days(lake, rows_out, reference.rejects, days, rows_in, inputs)
