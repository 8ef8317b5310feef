"""Reference tables, products and customers: cleaned as a whole, because they are small beside events and orders."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from functools import partial
from threading import Lock

import polars as pl
import pyarrow as pa

from jobs.bronze import customers as bronze_customers
from jobs.bronze import products as bronze_products
from jobs.clean import (
    _ids,
    _people,
    _rows,
    _versions,
    customers,
    customers_rejects,
    identity_days,
    orders,
    products,
    products_rejects,
)
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


@dataclass(frozen=True)
class Reference:
    """A table that events and orders look up.

    `classify` returns its bronze rows with their outcome, and `build` the table out of these; `inputs` is what that depends
    on besides the rows. `id_columns` are ids, cleaned with `null_words`. `prepare` makes the days due for which
    a look-up gives another value by the rows that the table is to have.
    """

    bronze: Table
    table: Table
    rejects: Table
    classify: Callable[[pa.Table], pl.DataFrame]
    build: Callable[[pa.Table, pl.DataFrame], pa.Table]
    inputs: list[str]
    id_columns: tuple[str, ...]
    null_words: _ids.NullWords
    prepare: Callable[[pa.Table], None]


def product_reference(lake: Lake, settings: Settings, source: Source) -> Reference:
    """Return clean.products as a reference table."""
    policy = load_policy(settings.policy)
    missing_price = policy.clean["products.price"]
    classify = partial(
        products.classify_products, currency=source.currency, null_words=policy.null_words, missing_price=missing_price
    )
    prepare = partial(_mark_order_days_due, lake, policy.null_words) if source.has("orders") else _do_nothing
    inputs = [str(_ids.describe(policy.null_words)), *([] if missing_price == "null" else [missing_price])]
    return Reference(
        bronze_products.TABLE, products.TABLE, products_rejects.TABLE, classify, products.build_products, inputs,
        ("product_id",), policy.null_words, prepare,
    )  # fmt: skip


def customer_reference(settings: Settings, prepare: Callable[[pa.Table], None]) -> Reference:
    """Return clean.customers as a reference table."""
    null_words = load_policy(settings.policy).null_words
    return Reference(
        bronze_customers.TABLE, customers.TABLE, customers_rejects.TABLE,
        partial(customers.classify_customers, null_words=null_words), customers.build_customers, [str(_ids.describe(null_words))],
        ("customer_id", "merged_into"), null_words, prepare,
    )  # fmt: skip


def refresh_people(
    lake: Lake, settings: Settings, source: Source, landed: dict[str, dict[date, dict]], last_day: date
) -> dict[str, list[reconciliation.Account]]:
    """Refresh clean.customers and clean.identity_days together: both say whom ids and addresses name. Returns their accounts."""
    accounts: dict[str, list[reconciliation.Account]] = {}

    def prepare(rows: pa.Table) -> None:
        accounts[identity_days.TABLE.name] = _people.refresh_people(
            lake, settings, source, landed, load_policy(settings.policy).null_words, last_day, rows, partial(_mark_due, lake)
        )

    accounts[customers.TABLE.name] = refresh_reference_table(lake, customer_reference(settings, prepare), landed)
    if identity_days.TABLE.name not in accounts:
        prepare(lake.read_arrow(customers.TABLE))
    return accounts


def _mark_due(lake: Lake, table: str, days: Collection[date]) -> None:
    with _DUE_DAYS:
        reconciliation.mark_due(lake, table, days)


def _do_nothing(rows: pa.Table) -> None:
    """Prepare nothing: no table looks the rows up."""


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
    reference.prepare(rows)
    lake.replace_rows(reference.table, rows)
    rows_in = {day: entry["n_rows"][f"bronze.{name}"] for day, entry in entries.items()}
    days = sorted(inputs)
    rows_out = _rows.count_by_day(lake, reference.table.name, days)
    _, noted = _ids.clean_ids(raw, reference.id_columns, reference.null_words)
    measures = _ids.group_measures(_ids.measure_corrections(raw, noted))
    _ids.log_corrections(reference.table.name, measures.values())
    return _rows.account_days(lake, rows_out, reference.rejects, days, rows_in, inputs, measures)


def _mark_order_days_due(lake: Lake, null_words: _ids.NullWords, rows: pa.Table) -> None:
    """Make the cleaned days of orders due again on which these rows of clean.products give another answer than stored ones."""
    before, after = (products.find_product_validity(versions) for versions in (lake.read_arrow(products.TABLE), rows))
    revisions = reconciliation.read_revisions(lake, orders.TABLE.name)
    if revisions and len(changes := _versions.find_changes(before, after, max(revisions))):
        lookups = orders.find_product_lookups(read_rows(lake.root, Rows(orders.BRONZE, "day", _PRODUCT_LOOKUPS)), null_words)
        _mark_due(lake, orders.TABLE.name, _versions.find_affected_days(lookups, changes, before, after, max(revisions)))
