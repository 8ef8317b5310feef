"""The vectors of items and customers as of a day, by group: of texts, and those that the shop brought in."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.clean import products as clean_products
from jobs.config.settings import Settings
from jobs.features import item_days, texts, vectors
from jobs.features._text_keys import find_secret, hash_texts, normalize_texts
from jobs.input_groups import OWN_VECTORS, TEXT
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.vectors import to_matrix
from jobs.text_models import TextModel, normalize_vectors

_NO_CUSTOMERS = pl.DataFrame(schema={"customer_id": pl.String, "place": pl.Int64})


@dataclass(frozen=True)
class ItemVectors:
    """The vectors of a group on a day: those of items, and of customers themselves.

    `places` (is_search, item, place) names the row of `matrix` (n x d float32, of length 1 each) of each item. `customers`
    (customer_id, place) names the row of `own` (m x e float32) of each customer who has a vector of their own.
    """

    group: str
    model: str
    places: pl.DataFrame
    matrix: np.ndarray
    customers: pl.DataFrame
    own: np.ndarray


def read_text_vectors(lake: Lake, settings: Settings, model: TextModel, day: date, days: list[date]) -> ItemVectors | None:
    """Return the vectors of what was searched for on `days`, and of the names that products had on `day`; None without any."""
    is_search = ds.field("kind") == item_days.SEARCH
    searched = to_frame(read_rows(lake.root, Rows(item_days.TABLE, "item", ("item",), days, where=is_search))).unique()
    searches = searched.select(is_search=pl.lit(True), item="item", text_key="item")
    items = pl.concat([searches, _read_products(lake, settings, day)])
    is_of_model = ds.field("model") == model.name
    keys = items["text_key"].unique().to_arrow()
    rows = read_rows(lake.root, Rows(texts.TABLE, "text_key", ("text_key", "vector"), only=keys, where=is_of_model))
    if not rows.num_rows:
        return None
    matrix = to_matrix(rows["vector"])
    # A text that is searched for and names a product has two rows with the same vector.
    order = to_frame(rows.select(["text_key"])).with_row_index("row").unique("text_key", keep="any").sort("text_key")
    placed = order.select("text_key").with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
    places = items.join(placed, "text_key", "inner").select("is_search", "item", "place")
    return ItemVectors(TEXT, model.name, places, matrix[order["row"].to_numpy()], _NO_CUSTOMERS, np.zeros((0, 0), np.float32))


def _read_products(lake: Lake, settings: Settings, day: date) -> pl.DataFrame:
    """Return the key of the name that each product had on the day: is_search, item, text_key."""
    rows = to_frame(read_rows(lake.root, Rows(clean_products.TABLE, "product_id", ("product_id", "day", "name"))))
    newest = rows.filter(pl.col("day") <= day).drop_nulls("name").sort("product_id", "day").unique("product_id", keep="last")
    names = normalize_texts(newest["name"], settings.text.max_characters)
    keys = hash_texts(names, find_secret())
    return newest.select(is_search=pl.lit(False), item="product_id", text_key=keys).drop_nulls("text_key")


def read_own_vectors(stored: pa.Table, day: date) -> ItemVectors | None:
    """Return the vectors of features.vectors that hold on the day; None without any."""
    rows = stored.append_column("row", pa.array(range(stored.num_rows), pa.int64()))
    newest = to_frame(rows.drop_columns("vector")).filter(pl.col("known_from") <= day)
    newest = newest.sort("kind", "id", "known_from").unique(["kind", "id"], keep="last").sort("kind", "id")
    if not len(newest):
        return None
    products, customers = (newest.filter(pl.col("kind") == kind) for kind in (vectors.PRODUCT, vectors.CUSTOMER))
    names = [f"{part['kind'][0]}:{part['model'][0]}" for part in (customers, products) if len(part)]
    place = pl.int_range(pl.len())
    return ItemVectors(
        OWN_VECTORS,
        " ".join(names),
        products.select(is_search=pl.lit(False), item="id", place=place),
        normalize_vectors(_take_matrix(stored, products)),
        customers.select(customer_id="id", place=place),
        _take_matrix(stored, customers),
    )


def _take_matrix(stored: pa.Table, rows: pl.DataFrame) -> np.ndarray:
    if not len(rows):
        return np.zeros((0, 0), np.float32)
    return to_matrix(stored["vector"].take(rows["row"].to_arrow()))
