"""What marks the purchases of each segment: products that its customers buy more than others, and buy together."""

import numpy as np
import polars as pl
from scipy import sparse

TOP_PRODUCTS = 5
TOP_PAIRS = 3
_PAIRED = 300  # products of a segment whose pairs are counted: those with most buyers


def summarize_segments(weighed: pl.DataFrame, segments: pl.DataFrame, products: pl.DataFrame, min_cell: int) -> list[dict]:
    """Return for each segment its number of `buyers`, top `products` and `pairs`, out of weigh_signals() rows.

    The lift of a product is the share of the segment's buyers who bought it, over that of all buyers. That of a pair is the
    share who bought both, over what it would be if the two had nothing to do with each other. Both are ranked by share times
    the logarithm of the lift, so that a product of few is not first. Fewer than `min_cell` customers are not shown.
    """
    bought = weighed.filter(pl.col("bought_days") > 0).join(segments, "customer_id", "left")
    shares = bought.group_by("product_id").agg(share=pl.len() / bought["customer_id"].n_unique())
    names = {row[0]: row[1:] for row in products.select("product_id", "name", "category").iter_rows()}
    summaries = []
    for (segment_id,), rows in bought.drop_nulls("segment_id").sort("segment_id").group_by("segment_id", maintain_order=True):
        n_buyers = rows["customer_id"].n_unique()
        if n_buyers >= min_cell:
            tops, pairs = _rank_products(rows, shares, n_buyers, min_cell), _rank_pairs(rows, n_buyers, min_cell)
            for row in tops:
                row["name"], row["category"] = names[row["product_id"]]
            for row in pairs:
                row["names"] = [names[product_id][0] for product_id in row["product_ids"]]
            summaries.append({"segment_id": segment_id, "buyers": n_buyers, "products": tops, "pairs": pairs})
    return summaries


def _rank_products(rows: pl.DataFrame, shares: pl.DataFrame, n_buyers: int, min_cell: int) -> list[dict]:
    counts = rows.group_by("product_id").agg(buyers=pl.len()).filter(pl.col("buyers") >= min_cell)
    own = pl.col("buyers") / n_buyers
    lifts = counts.join(shares, "product_id", "inner").with_columns(lift=own / pl.col("share"))
    ranked = lifts.filter(pl.col("lift") > 1).sort(-own * pl.col("lift").log(), "product_id").head(TOP_PRODUCTS)
    return ranked.select("product_id", "buyers", "lift").to_dicts()


def _rank_pairs(rows: pl.DataFrame, n_buyers: int, min_cell: int) -> list[dict]:
    counts = rows.group_by("product_id").len("n").sort(-pl.col("n").cast(pl.Int64), "product_id").head(_PAIRED)
    customers = rows.select("customer_id").unique().sort("customer_id").with_row_index("customer")
    paired = rows.join(counts.with_row_index("product"), "product_id", "inner").join(customers, "customer_id", "inner")
    places = (paired["customer"].to_numpy(), paired["product"].to_numpy())
    bought = sparse.csr_matrix((np.ones(len(paired)), places), (len(customers), len(counts)))
    together = np.triu((bought.T @ bought).toarray(), k=1)
    n = counts["n"].to_numpy()
    lifts = together * n_buyers / np.outer(n, n)
    surprise = np.where((together >= min_cell) & (lifts > 1), together * np.log(np.maximum(lifts, 1)), 0)
    ids = counts["product_id"].to_list()
    return [
        {"product_ids": [ids[a], ids[b]], "buyers": int(together[a, b]), "lift": float(lifts[a, b])}
        for a, b in (divmod(int(place), len(ids)) for place in np.argsort(-surprise, axis=None, kind="stable")[:TOP_PAIRS])
        if surprise[a, b] > 0
    ]
