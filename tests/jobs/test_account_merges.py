"""Merged accounts: chains are followed from day to day, a merge may be taken back, and no merge closes a circle."""

from datetime import date

import polars as pl

from jobs import account_merges


def list_versions(*rows):
    """Records of accounts: (customer, day of March, merged into)."""
    records = [(n, customer, date(2024, 3, day), target) for n, (customer, day, target) in enumerate(rows)]
    columns = {"position": pl.UInt32, "customer_id": pl.String, "day": pl.Date, "merged_into": pl.String}
    return pl.DataFrame(records, columns, orient="row").with_columns(_file=pl.lit("file"), _row="position")


def follow(*rows):
    """(customer, owner, day of March) of these records."""
    owners = account_merges.find_owners(list_versions(*rows)).rows()
    return [(customer, owner, since.day) for customer, owner, since in owners]


def test_a_chain_is_followed_and_a_merge_that_is_taken_back_ends():
    rows = [("old", 1, None), ("old", 3, "middle"), ("middle", 5, "new"), ("old", 7, None), ("new", 1, None)]
    assert follow(*rows) == [("middle", "new", 5), ("old", "middle", 3), ("old", "new", 5), ("old", "old", 7)]
    merges = account_merges.find_owners(list_versions(*rows))
    on_days = [account_merges.find_owners_on(merges, date(2024, 3, day)) for day in (2, 4, 6, 8)]
    assert on_days == [{}, {"old": "middle"}, {"old": "new", "middle": "new"}, {"middle": "new"}]
    assert set(account_merges.group_accounts(merges).values()) == {"middle"}


def test_the_record_that_closes_a_circle_is_refused():
    rows = list_versions(("a", 1, "b"), ("b", 2, "c"), ("c", 3, "a"), ("d", 1, "d"), ("e", 3, "a"))
    assert account_merges.find_cycles(rows).to_list() == [3, 2]


def test_a_merge_in_the_other_direction_is_no_circle_where_the_first_is_taken_back_on_the_day():
    rows = [("a", 1, "b"), ("b", 2, "a"), ("a", 2, None)]
    assert account_merges.find_cycles(list_versions(*rows)).to_list() == []
    assert follow(*rows) == [("a", "b", 1), ("a", "a", 2), ("b", "a", 2)]
