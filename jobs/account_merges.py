"""Accounts that became part of others: chains of merges followed from day to day, and the records that would close a circle."""

from collections.abc import Iterator
from datetime import date

import polars as pl

_OWNERS = {"customer_id": pl.String, "owner": pl.String, "since": pl.Date}


def find_cycles(typed: pl.DataFrame) -> pl.Series:
    """Return the positions of the records whose merge would lead an account back to itself, in the order in which they came.

    `typed` has position, customer_id, merged_into, day, _file and _row.
    """
    into: dict[str, str] = {}
    refused = []
    for position, customer, target in _select_moving(typed).select("position", "customer_id", "merged_into").iter_rows():
        if target is None:
            into.pop(customer, None)
        elif customer in _follow(into, target):
            refused.append(position)
        else:
            into[customer] = target
    return pl.Series(refused, dtype=pl.UInt32)


def _select_moving(typed: pl.DataFrame) -> pl.DataFrame:
    """Return the records of accounts that are merged at some time, by day; of a day those first that take a merge back."""
    merged = typed.drop_nulls("merged_into").select("customer_id").drop_nulls().unique()
    order = [column for column in ("_file", "_row", "customer_id") if column in typed.columns]
    return typed.join(merged, "customer_id", "semi").sort("day", pl.col("merged_into").is_not_null(), *order)


def _follow(into: dict[str, str], account: str) -> Iterator[str]:
    """Yield an account and those that it became part of."""
    yield account
    while account in into:
        account = into[account]
        yield account


def find_owners(versions: pl.DataFrame) -> pl.DataFrame:
    """Return whose account an account is from a day on: customer_id, owner, since, wherever that changes; sorted.

    `versions` are those of clean.customers: customer_id, day, merged_into. None of them closes a circle.
    """
    into: dict[str, str] = {}
    parts: dict[str, set[str]] = {}  # the accounts that became part of an account directly
    owners: dict[str, str] = {}
    rows: list[tuple[str, str, date]] = []
    for (day,), group in _select_moving(versions).group_by("day", maintain_order=True):
        changed: set[str] = set()
        for customer, target in group.select("customer_id", "merged_into").iter_rows():
            parts.get(into.pop(customer, ""), set()).discard(customer)
            if target is not None:
                into[customer] = target
                parts.setdefault(target, set()).add(customer)
            changed.add(customer)
        for customer in sorted(_list_parts(changed, parts)):
            *_, owner = _follow(into, customer)
            if owners.get(customer, customer) != owner:
                owners[customer] = owner
                rows.append((customer, owner, day))
    return pl.DataFrame(rows, schema=_OWNERS, orient="row").sort("customer_id", "since")


def _list_parts(accounts: set[str], parts: dict[str, set[str]]) -> set[str]:
    """Return accounts and all that became part of them."""
    reached, open_accounts = set(accounts), list(accounts)
    while open_accounts:
        for part in parts.get(open_accounts.pop(), set()) - reached:
            reached.add(part)
            open_accounts.append(part)
    return reached


def find_owners_on(merges: pl.DataFrame, day: date) -> dict[str, str]:
    """Return the owners of the accounts that are part of another one on a day, by account."""
    latest = merges.filter(pl.col("since") <= day).sort("since").unique("customer_id", keep="last")
    return {customer: owner for customer, owner in latest.select("customer_id", "owner").iter_rows() if customer != owner}


def group_accounts(merges: pl.DataFrame) -> dict[str, str]:
    """Return one name for all accounts that are part of each other at any time, by account."""
    names: dict[str, str] = {}

    def find_name(account: str) -> str:
        while names.get(account, account) != account:
            account = names[account]
        return account

    for customer, owner in merges.select("customer_id", "owner").iter_rows():
        first, last = sorted((find_name(customer), find_name(owner)))
        names[last] = names[first] = first
    return {account: find_name(account) for account in names}
