"""Whose an order is, and since when that is known: guests who get an account later, and accounts that are merged."""

import polars as pl

from jobs.business_day import FOREVER
from jobs.clean._order_versions import ORDER
from jobs.clean._people import People

_ORDER_DAY = [*ORDER, "day"]
_NOBODY = pl.lit(None, pl.String)


def mark_guests(rows: pl.DataFrame, shared: pl.DataFrame) -> pl.DataFrame:
    """Add is_guest: a row names no customer, or on its day an id that many people share (customer_id, since)."""
    ids = shared.select("customer_id", shared_since="since")
    marked = rows if ids.is_empty() else rows.join(ids, "customer_id", "left", maintain_order="left")
    is_shared = pl.lit(False) if ids.is_empty() else (pl.col("shared_since") <= pl.col("day")).fill_null(False)
    return marked.with_columns(is_guest=pl.col("customer_id").is_null() | is_shared).drop("shared_since", strict=False)


def find_owners(rows: pl.DataFrame, people: People) -> pl.DataFrame:
    """Return who owns rows (position, day, customer_id, email_key) that name somebody else or nobody: position, since, owner.

    An owner, null for nobody, holds from `since` until the next one of the row. A guest's order belongs to the holder of its
    address on its day; where nobody holds it then, to the first who does later. An id that many people share names nobody from
    then on, and the row is that of a guest. An account that is merged belongs to its owner from then on.
    """
    received = rows.select("position", "day", "customer_id", "email_key")
    shared = people.shared.select("customer_id", pl.col("since").alias("shared_since"))
    lost = received.join(shared, "customer_id", "inner").select(
        "position", "email_key", pl.max_horizontal("day", "shared_since").alias("day")
    )
    guests = pl.concat([received.filter(pl.col("customer_id").is_null()).select(lost.columns), lost])
    held = guests.join(people.mails, "email_key", "inner").filter(pl.col("until") > pl.col("day"))
    first = held.sort("since").unique("position", keep="first", maintain_order=True)
    by_mail = first.select("position", pl.max_horizontal("since", "day").alias("since"), "owner")
    own = received.drop_nulls("customer_id").join(lost.select("position"), "position", "anti")
    own = own.select("position", since="day", owner="customer_id")
    merges = people.merges.select("customer_id", pl.col("owner").alias("merged_owner"), pl.col("since").alias("since_merged"))
    merged = pl.concat([own, by_mail]).join(merges, left_on="owner", right_on="customer_id", how="inner")
    by_merge = merged.sort("since_merged").select(
        "position", pl.max_horizontal("since", "since_merged").alias("since"), owner="merged_owner"
    )
    nobody = lost.select("position", since="day", owner=_NOBODY)
    in_order = pl.concat([nobody, by_mail, by_merge]).with_row_index("step").sort("position", "since", "step")
    return in_order.unique(["position", "since"], keep="last", maintain_order=True).drop("step")


def add_owner(rows: pl.DataFrame, owners: pl.DataFrame) -> pl.DataFrame:
    """Replace customer_id of the rows by the owner of find_owners as it is known now."""
    last = owners.unique("position", keep="last", maintain_order=True).select("position", "owner", has_owner=True)
    return _take_owner(rows.join(last, "position", "left", maintain_order="left"))


def _take_owner(rows: pl.DataFrame) -> pl.DataFrame:
    customer = pl.when(pl.col("has_owner").fill_null(False)).then("owner").otherwise("customer_id")
    return rows.with_columns(customer_id=customer).drop("owner", "has_owner")


def list_states(rows: pl.DataFrame, owners: pl.DataFrame) -> pl.DataFrame:
    """Return the rows once for each state of their order: known_from and known_until, and customer_id as it is known between.

    A row stands from `since` until `until`. When any row of an order on a day begins, ends or changes its owner, a new state of
    that order begins. In the order of the rows.
    """
    changes = rows.select("position", *_ORDER_DAY).join(owners, "position", "inner")
    later = pl.concat(
        [
            rows.filter((pl.col("since") > pl.col("day")) | (pl.col("until") < pl.lit(FOREVER))).select(_ORDER_DAY),
            changes.filter(pl.col("since") > pl.col("day")).select(_ORDER_DAY),
        ]
    ).unique()
    if later.is_empty() and owners.is_empty():
        return rows.with_columns(known_from="since", known_until="until")
    numbered = rows.with_row_index("row")
    constant = numbered if later.is_empty() else numbered.join(later, _ORDER_DAY, "anti", nulls_equal=True)
    changing = numbered.join(later, _ORDER_DAY, "semi", nulls_equal=True)
    begins = [changing.select(*_ORDER_DAY, at=name) for name in ("since", "until")]
    moments = pl.concat([*begins, changes.join(later, _ORDER_DAY, "semi", nulls_equal=True).select(*_ORDER_DAY, at="since")])
    states = moments.unique().sort(*_ORDER_DAY, "at").rename({"at": "known_from"})
    states = states.with_columns(known_until=pl.col("known_from").shift(-1).over(_ORDER_DAY)).drop_nulls("known_until")
    stated_rows = (
        changing.join(states, _ORDER_DAY, "inner", nulls_equal=True)
        .filter((pl.col("known_from") >= pl.col("since")) & (pl.col("known_until") <= pl.col("until")))
    )  # fmt: skip
    stated = pl.concat([constant.with_columns(known_from="since", known_until="until"), stated_rows])
    asked = stated.select("row", "position", "known_from").join(owners, "position", "inner")
    held = asked.filter(pl.col("since") <= pl.col("known_from")).sort("since")
    held = held.unique(["row", "known_from"], keep="last", maintain_order=True)
    held = held.select("row", "known_from", "owner", has_owner=True)
    return _take_owner(stated.join(held, ["row", "known_from"], "left").sort("row", "known_from")).drop("row")
