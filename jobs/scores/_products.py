"""What is known of products as of a day: which are offered, which are bought again, and which are like others.

- Offered: something was done with it in the last OFFERED_DAYS days, or it was listed then. Where the shop sends a list of
  products, it must be in it.
- Repeatable: at least MIN_REPEAT_SHARE of its buyers bought it on two days or more. A product of few buyers has, besides its own,
  REPEAT_PRIOR buyers like those of its category, and a category those of the shop.
"""

import re
from datetime import date, timedelta

import numpy as np
import polars as pl
from scipy import sparse

OFFERED_DAYS = 90
MIN_REPEAT_SHARE = 0.05
REPEAT_PRIOR = 20  # buyers
NEIGHBOURS = 50  # of a product, the most similar ones
SHRINKAGE = 10  # buyers by which a co-purchase is taken to be chance
_ROWS_AT_ONCE = 500
_WORD = re.compile(r"[^\W\d_]{2,}")  # words of letters: a number says what is in a pack, not what it is


def describe_products(weighed: pl.DataFrame, categories: pl.DataFrame, listed: pl.DataFrame, day: date) -> pl.DataFrame:
    """Return the products of weigh_signals() rows and those that are listed.

    Columns: product_id, name, category, is_offered, is_repeatable. `categories` are (product_id, category) as sent with orders
    and events, and `listed` are (product_id, name, category, day) of the shop's own list, none where it sends none. Sorted by
    product.
    """
    done = weighed.group_by("product_id").agg(
        last_day=pl.col("last_day").max(),
        buyers=(pl.col("bought_days") > 0).sum(),
        repeat_buyers=(pl.col("bought_days") > 1).sum(),
    )
    named = listed.select("product_id", "name", listed_category="category", listed_on="day")
    products = done.join(named, "product_id", "full", coalesce=True).join(categories, "product_id", "left")
    since = pl.lit(day - timedelta(days=OFFERED_DAYS))
    is_recent = ((pl.col("last_day") > since) | (pl.col("listed_on") > since)).fill_null(False)
    products = products.with_columns(
        category=pl.coalesce("listed_category", "category"),
        is_offered=is_recent & (pl.col("listed_on").is_not_null() if len(listed) else pl.lit(True)),
    )
    return _mark_repeatable(products).select("product_id", "name", "category", "is_offered", "is_repeatable").sort("product_id")


def _mark_repeatable(products: pl.DataFrame) -> pl.DataFrame:
    buyers, repeat_buyers = pl.col("buyers").fill_null(0), pl.col("repeat_buyers").fill_null(0)
    of_shop = repeat_buyers.sum() / pl.max_horizontal(buyers.sum(), 1)
    of_category = (repeat_buyers.sum().over("category") + REPEAT_PRIOR * of_shop) / (buyers.sum().over("category") + REPEAT_PRIOR)
    share = (repeat_buyers + REPEAT_PRIOR * of_category) / (buyers + REPEAT_PRIOR)
    return products.with_columns(is_repeatable=share >= MIN_REPEAT_SHARE)


def find_co_purchases(customers: np.ndarray, products: np.ndarray, n_products: int, offered: np.ndarray) -> sparse.csr_matrix:
    """Return how often products are bought by the same customers (products x offered): the cosine, less where few bought them.

    A purchase is a position of `customers` and `products`; each pair is there once.
    """
    bought = sparse.csr_matrix(
        (np.ones(len(products), np.float32), (products, customers)), (n_products, int(customers.max(initial=-1)) + 1)
    )
    norms = np.sqrt(np.diff(bought.indptr) + SHRINKAGE)
    return _find_neighbours(sparse.diags_array((1 / norms).astype(np.float32)) @ bought, offered)


def find_similar_content(products: pl.DataFrame, offered: np.ndarray) -> sparse.csr_matrix:
    """Return how alike the names and categories of products are (products x offered): the cosine of their TF-IDF vectors.

    A customer's profile is the mean of the vectors of their products, so its similarity is the mean of the products' ones.
    """
    texts = products.select(pl.concat_str(["name", "category"], separator=" ", ignore_nulls=True)).to_series().to_list()
    words = [sorted(set(_WORD.findall((text or "").lower()))) for text in texts]
    vocabulary = {word: number for number, word in enumerate(sorted({word for of_product in words for word in of_product}))}
    rows = np.repeat(np.arange(len(words)), [len(of_product) for of_product in words])
    columns = np.array([vocabulary[word] for of_product in words for word in of_product], np.int64)
    counts = np.bincount(columns, minlength=len(vocabulary))
    values = np.log((1 + len(words)) / (1 + counts))[columns]  # a word that each product has weighs nothing
    norms = np.sqrt(np.bincount(rows, values**2, len(words)))
    values = np.divide(values, norms[rows], out=np.zeros_like(values), where=norms[rows] > 0)
    shape = (len(words), max(1, len(vocabulary)))
    return _find_neighbours(sparse.csr_matrix((values.astype(np.float32), (rows, columns)), shape), offered)


def _find_neighbours(vectors: sparse.csr_matrix, offered: np.ndarray) -> sparse.csr_matrix:
    """Return the products of vectors (products x d) with the offered ones, the NEIGHBOURS largest of a row, not with itself."""
    vectors = vectors.tocsr()
    right = vectors[offered].T.tocsc()
    columns_of = np.full(vectors.shape[0], -1)
    columns_of[offered] = np.arange(len(offered))
    parts = []
    for start in range(0, vectors.shape[0], _ROWS_AT_ONCE):
        dense = (vectors[start : start + _ROWS_AT_ONCE] @ right).toarray()
        own = columns_of[start : start + len(dense)]
        dense[np.flatnonzero(own >= 0), own[own >= 0]] = 0
        if (n_rest := dense.shape[1] - NEIGHBOURS) > 0:
            np.put_along_axis(dense, np.argpartition(dense, n_rest, axis=1)[:, :n_rest], 0, axis=1)
        parts.append(sparse.csr_matrix(dense))
    return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, len(offered)), dtype=np.float32)
