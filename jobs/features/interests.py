"""features.interests: one row per customer, day and group of inputs: vectors of what a customer searches, views and buys.

Inputs: features.item_days, features.texts, features.vectors, clean.products. A row uses only what was known by its day. For each
window of the setting text.windows it has the weighted mean of the vectors of the items, of length 1 each; then the scatter of
the longest window and the drift of the shortest from it. A window ends with the customer's last item: while a customer does
nothing, their vector stays, and features.customers says how long ago that is. Who has had no item for the longest window has
no row.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa

from jobs.config.settings import Settings, Text
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Tables, Write
from jobs.features import item_days, vectors
from jobs.features._accounts import Accounts, read_accounts
from jobs.features._item_vectors import ItemVectors, read_own_vectors, read_text_vectors
from jobs.quality import reconciliation
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows
from jobs.storage.table import Table
from jobs.storage.vectors import to_lists
from jobs.text_models import TextModel

SCHEMA = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'as of the end of this day, in the business time zone',
    input_group STRING NOT NULL COMMENT 'text, or own_vectors: what the shop brought in',
    model STRING NOT NULL COMMENT 'what the vectors are of, and how they are weighed; not comparable across models',
    n_items BIGINT NOT NULL COMMENT 'different items with a vector in the longest window',
    last_item_day DATE COMMENT 'last day with such an item; null without one',
    vector ARRAY<FLOAT> NOT NULL COMMENT 'a mean per window, the shortest first, then scatter and drift; of own_vectors after the own vector of the customer'"""  # noqa: E501
TABLE = Table("features.interests", __doc__.split("\n\n")[0], SCHEMA, "day")
_VERSION = 1  # raise it when the same items become other vectors
_UNIT = 1 << 20  # weights are whole numbers of this unit, because their sums then depend on no order


def summarize_interests(
    tables: Tables, day: date, groups: Sequence[ItemVectors], settings: Text, accounts: Accounts | None = None
) -> Tables:
    """Return features.interests of a day as `interests`, sorted by group and customer.

    Key: customer. Inputs: `items`, rows of features.item_days that no window ends before. About 0.5 µs of CPU a row, and some
    10 µs for each of a customer's items.
    """
    items = _select_known(to_frame(tables["items"]), day, accounts or Accounts())
    parts = [TABLE.arrow_schema.empty_table()]
    for group in groups:
        weights = _weigh_items(items, group, day, settings)
        parts.append(_summarize_group(weights, group, day, settings))
    return {"interests": pa.concat_tables(parts)}


def _select_known(items: pl.DataFrame, day: date, accounts: Accounts) -> pl.DataFrame:
    """What was known by the day, with the items of an account that is part of another one as items of that one."""
    is_known = (pl.col("day") <= day) & (pl.col("identified_on") <= day) & (pl.col("known_until") > day)
    return items.filter(is_known).with_columns(pl.col("customer_id").replace(accounts.owners))


def _weigh_items(items: pl.DataFrame, group: ItemVectors, day: date, settings: Text) -> pl.DataFrame:
    """Return the weight of each item of a customer in each window: customer_id, place, last, and a column for each window."""
    longest = max(settings.windows)
    by_kind = {
        item_days.SEARCH: settings.search_weight,
        item_days.VIEW: settings.view_weight,
        item_days.CART: settings.cart_weight,
        item_days.ORDER: settings.order_weight,
    }
    placed = items.with_columns(is_search=pl.col("kind") == item_days.SEARCH).join(group.places, ["is_search", "item"], "inner")
    placed = placed.with_columns(last=pl.col("day").max().over("customer_id")).filter(
        pl.col("last") > day - timedelta(days=longest)
    )
    age = (pl.col("last") - pl.col("day")).dt.total_days()
    weight = (
        pl.col("kind").replace_strict(by_kind, return_dtype=pl.Float64) * 0.5 ** (age / settings.half_life_days) * pl.col("n")
    )
    weighed = placed.with_columns(age=age, weight=(weight * _UNIT).round().cast(pl.Int64)).filter(pl.col("weight") > 0)
    sums = [pl.col("weight").filter(pl.col("age") < days).sum().alias(f"window_{days}") for days in settings.windows]
    summed = weighed.filter(pl.col("age") < longest).group_by("customer_id", "place").agg(pl.col("last").first(), *sums)
    return summed.sort("customer_id", "place")


def _summarize_group(weights: pl.DataFrame, group: ItemVectors, day: date, settings: Text) -> pa.Table:
    ids = pl.concat([weights["customer_id"], group.customers["customer_id"]]).unique().sort()
    rows = pl.DataFrame({"customer_id": ids})
    parts = [_take_own(rows, group)] if group.own.size else []
    if len(group.matrix):
        parts.append(_summarize_items(ids, weights, group.matrix, sorted(settings.windows)))
    counts = weights.group_by("customer_id").agg(n_items=pl.len().cast(pl.Int64), last_item_day=pl.col("last").max())
    rows = rows.join(counts, "customer_id", "left", maintain_order="left").with_columns(pl.col("n_items").fill_null(0))
    matrix = np.hstack(parts) if parts else np.zeros((0, 1), np.float32)
    constants = {"day": pl.lit(day), "input_group": pl.lit(group.group), "model": pl.lit(name_model(group.model, settings))}
    table = rows.with_columns(**constants).to_arrow().append_column("vector", to_lists(matrix))
    return table.select(TABLE.columns).cast(TABLE.arrow_schema)


def name_model(vectors_of: str, settings: Text) -> str:
    """Return the name of the model of a customer's vector: what its items' vectors are of, and a hash of how they are weighed.

    >>> name_model("static-1", Text()) == name_model("static-1", Text(half_life_days=30.0))
    False
    """
    weights = (settings.search_weight, settings.view_weight, settings.cart_weight, settings.order_weight)
    weighing = reconciliation.fingerprint_inputs(_VERSION, sorted(settings.windows), settings.half_life_days, weights)
    return f"{vectors_of} {weighing[:8]}"


def _summarize_items(ids: pl.Series, weights: pl.DataFrame, matrix: np.ndarray, windows: list[int]) -> np.ndarray:
    """Return the means of each window, shortest first, the scatter and the drift, of n customers; zeros without an item."""
    from scipy.sparse import csr_matrix  # here, because it takes a third of a second

    rows = ids.search_sorted(weights["customer_id"]).to_numpy()
    starts = np.searchsorted(rows, np.arange(len(ids) + 1))
    means = []
    for days in windows:
        amounts = weights[f"window_{days}"].to_numpy().astype(np.float64)
        totals = np.bincount(rows, amounts, len(ids))  # exact: whole numbers
        shares = (amounts / np.maximum(totals[rows], 1)).astype(np.float32)
        means.append(csr_matrix((shares, weights["place"].to_numpy(), starts), (len(ids), len(matrix))) @ matrix)
    has_items = np.diff(starts) > 0
    lengths = [np.sqrt(np.einsum("ij,ij->i", mean, mean)) for mean in means]
    scatter = np.where(
        has_items, np.maximum(1 - lengths[-1] ** 2, 0), 0
    )  # the mean squared distance of vectors of length 1 from their mean
    cosine = np.einsum("ij,ij->i", means[0], means[-1]) / np.maximum(lengths[0] * lengths[-1], 1e-12)
    drift = np.where(has_items, np.maximum(1 - cosine, 0), 0)
    return np.hstack([*means, scatter[:, None], drift[:, None]]).astype(np.float32)


def _take_own(rows: pl.DataFrame, group: ItemVectors) -> np.ndarray:
    """Return the customers' own vectors; zeros for who has none."""
    places = rows.join(group.customers, "customer_id", "left", maintain_order="left")["place"].fill_null(len(group.own))
    return np.vstack([group.own, np.zeros(group.own.shape[1], np.float32)])[places.to_numpy()]


def run(lake: Lake, settings: Settings, days: list[date], earlier: list[date], text_model: TextModel | None) -> None:
    """Write the interests as of `days`, and as of those of the `earlier` days that were written with other models or settings."""
    lake.create(vectors.TABLE)
    lake.create(TABLE)
    model_name = text_model.name if text_model else ""
    inputs = reconciliation.fingerprint_inputs(_VERSION, model_name, settings.text, lake.version(vectors.TABLE.name))
    due = reconciliation.due_days(lake, TABLE.name, dict.fromkeys({*earlier, *days}, inputs), days)
    key, accounts = read_accounts(lake, due)
    own_vectors = lake.read_arrow(vectors.TABLE)
    for day in due:
        # The longest window of a customer whose last item is old begins before those of the others.
        first = day - timedelta(days=2 * max(settings.text.windows))
        read = [stored for stored in lake.days(item_days.TABLE.name) if first < stored <= day]
        texts = read_text_vectors(lake, settings, text_model, day, read) if text_model else None
        groups = [group for group in (read_own_vectors(own_vectors, day), texts) if group]
        kernel = partial(summarize_interests, day=day, groups=groups, settings=settings.text, accounts=accounts.get(day))
        _write_day(lake, settings, day, kernel, Rows(item_days.TABLE, key, None, read if groups else []))
    n_rows = lake.count_rows_by_day(TABLE.name)
    rows = [reconciliation.Account(day, n_rows[day], n_rows[day], inputs) for day in due]
    reconciliation.write_accounts(lake, {TABLE.name: rows})


def _write_day(lake: Lake, settings: Settings, day: date, kernel: partial, items: Rows) -> None:
    n_rows = lake.count_rows(item_days.TABLE.name, set(items.days))
    opened = lake.open_for_write(TABLE)
    with open_runner(lake, settings, n_rows) as runner:
        read = runner.read({"items": items}, count_buckets(n_rows))
        opened.commit(runner.run(kernel, read, {"interests": Write(TABLE)}).files["interests"], [day])
