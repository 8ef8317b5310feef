"""Accounts as they are known on a day: which are part of another one, and which are no customers."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from jobs import account_merges
from jobs.clean import customers as clean_customers
from jobs.clean import identity_alarms as clean_identity_alarms
from jobs.storage.lake import Lake

_ONCE_A_DAY = ("active_days", "order_days")  # aggregates that are 1 on one row of a customer's day


class Accounts(NamedTuple):
    """What is known on a day: which account each is part of, and the ids that many people share."""

    owners: Mapping[str, str] = {}
    shared: frozenset[str] = frozenset()


def read_accounts(lake: Lake, days: Sequence[date]) -> tuple[str | Callable[[pa.Table], pa.Array], dict[date, Accounts]]:
    """Return the key of features.customers, and the accounts of each day; none where no account is merged or shared."""
    versions = lake.read_arrow(clean_customers.TABLE, ["customer_id", "day", "merged_into"])
    merges = account_merges.find_owners(pl.DataFrame(pl.from_arrow(versions)))
    alarms = [a for a in lake.read_small_table(clean_identity_alarms.TABLE) if a["rule"] == "shared_customer"]
    accounts = {
        day: Accounts(account_merges.find_owners_on(merges, day), frozenset(a["id"] for a in alarms if a["since"] <= day))
        for day in days
    }
    if not any(of_day.owners or of_day.shared for of_day in accounts.values()):
        return "customer_id", {}
    groups = account_merges.group_accounts(merges)
    return partial(find_account, accounts=groups) if groups else "customer_id", accounts


def find_account(rows: pa.Table, accounts: Mapping[str, str]) -> pa.Array:
    """Return a name that all rows of accounts have that are part of each other at any time."""
    return pl.Series(pl.from_arrow(rows["customer_id"])).replace(accounts).to_arrow()


def merge_rows(tables: Mapping[str, pa.Table], accounts: Accounts, day: date) -> dict[str, pa.Table]:
    """Return the rows that compute_features reads as they count on the day: those of an account that is part of another one as
    rows of that one, and no `records` of shared ids.
    """
    tables = dict(tables)
    if accounts.shared:
        is_person = pc.invert(pc.is_in(tables["records"]["customer_id"], pa.array(sorted(accounts.shared), pa.string())))
        tables["records"] = tables["records"].filter(is_person)
    if not accounts.owners:
        return tables
    records = _merge_records(tables.pop("records"), accounts.owners)
    return {"records": records} | {name: _merge_days(rows, accounts.owners, day) for name, rows in tables.items()}


def _merge_records(rows: pa.Table, owners: Mapping[str, str]) -> pa.Table:
    """The country of an account that is part of another says nothing of it."""
    is_part = pl.col("customer_id").is_in(list(owners))
    country = pl.when(~is_part).then("country")
    merged = pl.DataFrame(pl.from_arrow(rows)).with_columns(country=country, customer_id=pl.col("customer_id").replace(owners))
    return merged.select(rows.column_names).to_arrow().cast(rows.schema)


def _merge_days(rows: pa.Table, owners: Mapping[str, str], day: date) -> pa.Table:
    """A day of several accounts is one active day."""
    frame = pl.DataFrame(pl.from_arrow(rows))
    concerned = pl.col("customer_id").is_in([*owners, *owners.values()])
    is_known = (pl.col("day") <= day) & (pl.col("identified_on") <= day) & (pl.col("known_until") > day)
    merged = frame.filter(concerned & is_known).with_columns(pl.col("customer_id").replace(owners))
    firsts = {
        name: pl.when(pl.col(name).cum_sum().over("customer_id", "day") == 1).then(name).otherwise(0).cast(frame.schema[name])
        for name in _ONCE_A_DAY
        if name in frame.columns
    }
    parts = [frame.filter(~concerned), merged.with_columns(**firsts)]
    return pl.concat(parts).to_arrow().cast(rows.schema)
