"""clean.customers: one row per customer and day on which its attributes became known or changed.

The attributes as known at a day are the newest row up to it.
"""

from datetime import date

import polars as pl
import pyarrow as pa

from jobs import account_merges, parsing
from jobs.business_day import FOREVER
from jobs.clean import _ids, _rows, _versions
from jobs.storage.table import Table

SCHEMA = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'day from which this is known; 1970-01-01 where the source states none',
    email_key STRING COMMENT 'keyed hash of the e-mail address',
    registered_at TIMESTAMP COMMENT 'when registered, UTC; null where unknown (1970-01-01 is unknown)',
    country STRING COMMENT 'country',
    merged_into STRING COMMENT 'account that this one became part of',
    attributes MAP<STRING, STRING> COMMENT 'what else the source says'"""
TABLE = Table("clean.customers", __doc__.split("\n\n")[0], SCHEMA)
VALUES = ["email_key", "registered_at", "country", "merged_into", "attributes_text"]
_UNKNOWN = date(1970, 1, 1)
_OWNER = {"email_key": pl.String, "owner": pl.String, "since": pl.Date, "until": pl.Date}
NO_SHARED = pl.DataFrame(schema={"customer_id": pl.String, "since": pl.Date})  # where guests share no customer id


def classify_customers(raw: pa.Table, null_words: _ids.NullWords = _ids.NO_WORDS) -> pl.DataFrame:
    """Return every bronze customer, typed, with its `position`, `outcome` and `rules`.

    `attributes_text` is the text of the attributes, which stand in `raw`. About 3 µs of CPU a row.
    """
    ids, noted = _ids.clean_ids(raw, ["customer_id", "merged_into"], null_words)
    texts = ids.hstack(parsing.clean_texts(raw, ["email_key", "country"]))
    registered = parsing.parse_time(_rows.take_column(raw, "registered_at")).alias("registered_at")
    attributes = _rows.encode_extra(raw["_extra"]).alias("attributes_text")
    typed = texts.hstack([registered, attributes, *_rows.take_origin(raw)]).with_columns(
        registered_at=pl.when(pl.col("registered_at").dt.date() > _UNKNOWN).then("registered_at")
    )
    rules = {
        "no_customer": pl.col("customer_id").is_null(),
        "scientific_id": _ids.is_scientific(noted),
        "merge_cycle": pl.col("position").is_in(account_merges.find_cycles(typed).implode()),
    }
    return _versions.classify_versions(typed.with_columns(_rows.find_broken_rules(raw, typed, rules)), "customer_id", VALUES)


def build_customers(raw: pa.Table, outcomes: pl.DataFrame) -> pa.Table:
    """Return clean.customers out of the rows of classify_customers that are kept, sorted by customer and day."""
    kept = outcomes.filter(pl.col("outcome") == "kept").sort("customer_id", "day")
    attributes = raw["_extra"].take(kept["position"].to_arrow())
    return kept.select(TABLE.columns[:-1]).to_arrow().append_column("attributes", attributes)


def find_merges(customers: pa.Table) -> pl.DataFrame:
    """Return which account an account is part of: customer_id, owner, since; each holds until the next of the same account.

    `owner` is at the end of a chain of merges, and is the account itself where a merge was taken back.
    """
    return account_merges.find_owners(_rows.to_frame(customers.select(["customer_id", "day", "merged_into"])))


def add_known_customer(rows: pl.DataFrame, mails: pl.DataFrame, shared: pl.DataFrame = NO_SHARED) -> pl.DataFrame:
    """Add known_customer_id, the customer that a row (position, customer_id, email_key, day) names by id or e-mail on its day.

    `mails` are those of find_mail_owners. An id that guests share (`shared`: customer_id, since) is null from that day on.
    """
    if not shared.is_empty():
        joined = rows.join(shared, "customer_id", "left", maintain_order="left")
        is_own = (pl.col("day") < pl.col("since")).fill_null(True)
        rows = joined.with_columns(customer_id=pl.when(is_own).then("customer_id")).drop("since")
    if mails.is_empty() or rows["email_key"].null_count() == len(rows):
        return rows.with_columns(known_customer_id="customer_id")
    mailed = rows.select("position", "email_key", "day").join(mails, "email_key", "inner")
    owners = mailed.filter((pl.col("day") >= pl.col("since")) & (pl.col("day") < pl.col("until"))).select("position", "owner")
    joined = rows.join(owners, "position", "left", maintain_order="left")
    return joined.with_columns(known_customer_id=pl.coalesce("customer_id", "owner")).drop("owner")


def find_mail_owners(
    customers: pa.Table, most: int = 1, learned: pl.DataFrame | None = None, shared: pl.DataFrame = NO_SHARED
) -> pl.DataFrame:
    """Return whom an e-mail address names: email_key, owner, since, until (exclusive).

    It names its newest holder, and nobody from the day on which it has more than `most` holders. Accounts that were merged are
    one holder, and an id that guests share (`shared`: customer_id, since) is none. `learned` are holders that orders and events
    show (email_key, customer_id, day); they are taken instead of the records in `customers`.
    """
    held, again = _split_holders(customers, learned, shared)
    plain = held.filter((pl.col("nth") <= most) & (pl.col("until") > pl.col("since"))).select(list(_OWNER))
    if again.is_empty():
        return plain
    owners = [row for row in _follow_holders(again, find_merges(customers), shared, most) if row["owner"] is not None]
    return pl.concat([plain, pl.DataFrame(owners, schema=_OWNER | {"n": pl.Int64}).select(list(_OWNER))])


def find_shared_mails(
    customers: pa.Table, most: int, learned: pl.DataFrame | None = None, shared: pl.DataFrame = NO_SHARED
) -> pl.DataFrame:
    """Return the addresses that too many customers hold: email_key, since, n_customers. Arguments as of find_mail_owners."""
    held, again = _split_holders(customers, learned, shared)
    plain = held.group_by("email_key").agg(
        since=pl.col("since").filter(pl.col("nth") > most).min(), n_customers=pl.len().cast(pl.Int64)
    )  # fmt: skip
    followed = _follow_holders(again, find_merges(customers), shared, most) if len(again) else []
    of_nobody = [
        {"email_key": row["email_key"], "since": row["since"], "n_customers": row["n"]}
        for row in followed
        if row["n"] > most and row["until"] == FOREVER
    ]
    return pl.concat([plain.drop_nulls("since"), pl.DataFrame(of_nobody, schema=plain.schema)])


def _split_holders(customers: pa.Table, learned: pl.DataFrame | None, shared: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the holders of addresses (list_mail_holders): of those that stay as they are, and of those to be followed by day."""
    rows = _rows.to_frame(customers.select(["email_key", "customer_id", "day"])) if learned is None else learned
    held = list_mail_holders(rows)
    moving = pl.concat([find_merges(customers)["customer_id"], shared["customer_id"]]).unique()
    if moving.is_empty():
        return held, held.clear()
    moved = held.filter(pl.col("owner").is_in(moving.implode()))
    several = held.filter(pl.col("nth") > 1)
    alone_and_shared = moved.join(shared, left_on="owner", right_on="customer_id", how="semi")
    keys = pl.concat([moved.join(several, "email_key", "semi")["email_key"], alone_and_shared["email_key"]]).unique()
    is_followed = pl.col("email_key").is_in(keys.implode())
    return held.filter(~is_followed), held.filter(is_followed)


def _follow_holders(held: pl.DataFrame, merges: pl.DataFrame, shared: pl.DataFrame, most: int) -> list[dict]:
    """Return what addresses name from day to day: email_key, owner or None, since, until, n (holders)."""
    shared_since = dict(shared.iter_rows())
    owners: dict[str, list[tuple[date, str]]] = {}
    for customer, owner, since in merges.sort("customer_id", "since").select("customer_id", "owner", "since").iter_rows():
        owners.setdefault(customer, []).append((since, owner))
    rows: list[dict] = []
    for (key,), group in held.sort("email_key", "since", "owner").group_by("email_key", maintain_order=True):
        holders = list(group.select("owner", "since").iter_rows())
        days = {since for _, since in holders}
        days |= {day for holder, _ in holders for day, _ in owners.get(holder, [])}
        days |= {shared_since[holder] for holder, _ in holders if holder in shared_since}
        spans = [(day, *_name_holder(holders, day, owners, shared_since, most)) for day in sorted(days) if day >= holders[0][1]]
        for place, (day, owner, n) in enumerate(spans):
            until = spans[place + 1][0] if place + 1 < len(spans) else FOREVER
            if rows and (rows[-1]["email_key"], rows[-1]["owner"], rows[-1]["n"]) == (key, owner, n):
                rows[-1]["until"] = until
            else:
                rows.append({"email_key": key, "owner": owner, "since": day, "until": until, "n": n})
    return rows


def _name_holder(holders: list, day: date, owners: dict, shared_since: dict, most: int) -> tuple[str | None, int]:
    """Return the customer that an address names on a day, None for nobody, and the number of its holders then."""
    accounts = [
        next((owner for since, owner in reversed(owners.get(holder, [])) if since <= day), holder)
        for holder, since in holders
        if since <= day and day < shared_since.get(holder, FOREVER)
    ]
    n = len(set(accounts))
    return (accounts[-1] if 1 <= n <= most else None), n


def list_mail_holders(rows: pl.DataFrame) -> pl.DataFrame:
    """Return who held an e-mail address, in order, until the next had it too: email_key, owner, since, until, nth.

    `rows` are email_key, customer_id, day.
    """
    held = rows.drop_nulls("email_key").group_by("email_key", owner="customer_id").agg(since=pl.col("day").min())
    return held.sort("email_key", "since", "owner").with_columns(
        until=pl.col("since").shift(-1).over("email_key").fill_null(FOREVER),
        nth=pl.int_range(1, pl.len() + 1).over("email_key"),
    )
