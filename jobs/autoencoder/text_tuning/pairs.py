"""What the shop says about the meaning of texts: which product was opened after which search.

The click of a search is the first product that is viewed, put into the cart or bought after it in its session, before the next
search: what is opened later has often nothing to do with it. Where there are too few searches, two products opened one after the
other are a pair.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

SEARCH, PRODUCT = "search", "product"  # what the query of a pair is
SPLIT_TENTHS = {"train": 6, "validation": 2, "test": 2}  # of the queries: a held-out query was never trained on
DAYS_READ_TOGETHER = 30
MAX_CHARACTERS = 1_000  # of a text; a search or a name is far shorter
_CLICKS = ("view", "add_to_cart", "purchase")

# The columns that are read.
EVENTS = Table(
    "clean.events",
    "What visitors search for and open.",
    """event_id STRING, day DATE, event_at TIMESTAMP, session_id STRING, event_type STRING, product_id STRING, search_term STRING,
       is_bot BOOLEAN""",
    partition="day",
)
PRODUCTS = Table("clean.products", "The names of products.", "product_id STRING, day DATE, name STRING")


@dataclass(frozen=True)
class Pairs:
    """Queries with the product names that followed them, each pair once, sorted."""

    kind: str  # SEARCH or PRODUCT
    queries: np.ndarray  # (n_pairs,) texts
    names: np.ndarray  # (n_pairs,) texts
    counts: np.ndarray  # (n_pairs,) how often
    lifts: np.ndarray  # (n_pairs,) the count as a share of all counts of its name, in whatever split

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def n_queries(self) -> int:
        return len(np.unique(self.queries))

    def select(self, split: str) -> "Pairs":
        """Return the pairs whose query is in a split of SPLIT_TENTHS; the query's hash alone decides."""
        distinct, places = np.unique(self.queries, return_inverse=True)
        rows = np.array([find_split(query) == split for query in distinct], bool)[places]
        return Pairs(self.kind, self.queries[rows], self.names[rows], self.counts[rows], self.lifts[rows])

    def fingerprint(self) -> str:
        """Return the SHA-256 of all pairs."""
        digest = hashlib.sha256(self.kind.encode())
        for row in zip(self.queries, self.names, self.counts.tolist(), strict=True):
            digest.update(repr(row).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class ShopTexts:
    """The texts of a shop as of a day."""

    names: np.ndarray  # distinct names of products, sorted
    terms: np.ndarray  # distinct search terms, sorted
    searches: Pairs
    products: Pairs


def find_split(query: str) -> str:
    """Return the split of a query, the same on every day and in every model.

    >>> find_split("red shoes") == find_split("red shoes")
    True
    """
    tenth = int.from_bytes(hashlib.blake2b(query.encode(), digest_size=8).digest(), "big") % 10
    ends = np.cumsum(list(SPLIT_TENTHS.values()))
    return list(SPLIT_TENTHS)[int(np.searchsorted(ends, tenth, side="right"))]


def read_texts(lake: str, day: date, history_days: int) -> ShopTexts:
    """Return the texts of the last `history_days` days up to `day`, and how they follow each other."""
    names = read_names(lake, day)
    searches, products, terms = [], [], []
    for days in _split_days(day, history_days):
        where = pc.field("event_type").isin(["search", *_CLICKS]) & ~pc.field("is_bot")
        events = read_rows(lake, Rows(EVENTS, "session_id", days=days, where=where))
        searches.append(pair_searches(events))
        products.append(pair_products(events))
        terms.append(pc.unique(events["search_term"].drop_null()))
    distinct_terms = pc.unique(pa.concat_arrays([pa.array([], pa.string()), *terms]))
    return ShopTexts(
        np.unique(np.array([shorten(name) for name in names["name"].to_pylist()], object)),
        np.unique(np.array([shorten(term) for term in distinct_terms.to_pylist()], object)),
        _count_pairs(SEARCH, pa.concat_tables(searches), names),
        _count_pairs(PRODUCT, pa.concat_tables(products), names),
    )


def read_names(lake: str, day: date) -> pa.Table:
    """Return (product_id, name) as known at `day`, for the products that have a name."""
    is_known = (pc.field("day") <= pa.scalar(day)) & pc.field("name").is_valid()
    rows = read_rows(lake, Rows(PRODUCTS, "product_id", where=is_known)).sort_by(
        [("product_id", "ascending"), ("day", "ascending")]
    )
    is_last = np.append(_changes(rows["product_id"].combine_chunks())[1:], True)[: rows.num_rows]
    return rows.filter(pa.array(is_last, pa.bool_())).select(["product_id", "name"])


def pair_searches(events: pa.Table) -> pa.Table:
    """Return (query, product_id), one row for each search that was followed by a product in its session."""
    events, starts = _order_by_session(events)
    is_search = pc.equal(events["event_type"], "search").to_numpy()
    search = np.maximum.accumulate(np.where(is_search, np.arange(len(is_search)), -1))  # the last one up to each event
    opened = np.flatnonzero(~is_search & pc.is_valid(events["product_id"]).to_numpy() & (search >= starts))
    first = opened[_changes(pa.array(search[opened]))]
    pairs = {
        "query": events["search_term"].take(pa.array(search[first])),
        "product_id": events["product_id"].take(pa.array(first)),
    }
    return pa.table(pairs).filter(pc.field("query").is_valid())


def pair_products(events: pa.Table) -> pa.Table:
    """Return (query, product_id): a product that was opened in a session, as its id, and another one opened next."""
    events, starts = _order_by_session(events.filter(pc.field("event_type").isin(_CLICKS) & pc.field("product_id").is_valid()))
    products = events["product_id"].combine_chunks()
    is_pair = _changes(products) & (starts < np.arange(len(starts)))
    rows = np.flatnonzero(is_pair)
    return pa.table({"query": products.take(pa.array(rows - 1)), "product_id": products.take(pa.array(rows))})


def shorten(text: str) -> str:
    """Return a text with single spaces and at most MAX_CHARACTERS.

    >>> shorten("  red   mug ")
    'red mug'
    """
    return " ".join(text[: 2 * MAX_CHARACTERS].split())[:MAX_CHARACTERS]


def _split_days(day: date, n_days: int) -> Iterator[list[date]]:
    """Yield the last `n_days` days up to `day`, DAYS_READ_TOGETHER at a time."""
    days = [day - timedelta(days=back) for back in range(n_days)]
    for start in range(0, n_days, DAYS_READ_TOGETHER):
        yield days[start : start + DAYS_READ_TOGETHER]


def _order_by_session(events: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """Return the events in the order of sessions and times, and the place of the first event of each event's session."""
    order = [("session_id", "ascending"), ("event_at", "ascending"), ("event_id", "ascending")]
    events = events.sort_by(order)
    places = np.arange(events.num_rows)
    return events, np.maximum.accumulate(np.where(_changes(events["session_id"].combine_chunks()), places, 0))


def _changes(column: pa.Array) -> np.ndarray:
    """Return for each row whether its value differs from that of the row before; the first one does."""
    if not len(column):
        return np.zeros(0, bool)
    return np.append(True, pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False))


def _count_pairs(kind: str, rows: pa.Table, names: pa.Table) -> Pairs:
    """Return how often each text was followed by each name; a product without a name is left out."""
    name_of = dict(zip(names["product_id"].to_pylist(), names["name"].to_pylist(), strict=True))
    counted = rows.group_by(["query", "product_id"]).aggregate([([], "count_all")])
    counts: dict[tuple[str, str], int] = {}
    for query, product, count in zip(*(counted[column].to_pylist() for column in counted.column_names), strict=True):
        text = query if kind == SEARCH else name_of.get(query, "")
        pair = shorten(text), shorten(name_of.get(product, ""))
        if all(pair) and (kind == SEARCH or pair[0] != pair[1]):
            counts[pair] = counts.get(pair, 0) + count
    return build_pairs(kind, counts)


def build_pairs(kind: str, counts: dict[tuple[str, str], int]) -> Pairs:
    """Return pairs by how often each (query, name) was counted."""
    ordered = sorted(counts)
    queries, names = (np.array([pair[side] for pair in ordered], object) for side in (0, 1))
    numbers = np.array([counts[pair] for pair in ordered], np.int64)
    name_of = np.unique(names, return_inverse=True)[1]
    return Pairs(kind, queries, names, numbers, numbers / np.bincount(name_of, numbers)[name_of])
