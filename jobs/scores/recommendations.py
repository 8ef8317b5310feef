"""Ten products for each active customer, best first, as of a day.

Input: clean.orders and clean.events up to the day, features.customers and segments.assignments of it, and the champion of the
recommenders. What a customer bought and customers do not buy again is left out, and so is what is not offered. A customer of whom
little is known gets what is popular in their segment, or in the shop where that is not known. `method` says which part of the
score put a product into the list.
"""

from datetime import date
from functools import partial

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from jobs.config.settings import Settings
from jobs.engine.runner import open_runner
from jobs.engine.tasks import Tables, Write
from jobs.scores import _recommender_training
from jobs.scores._inputs import ACTIVE, segments_of
from jobs.scores._interactions import Shop, interactions_of, list_signals, read_shop, weigh_signals
from jobs.scores._recommender import COMPONENTS, LENGTH, Recommender, number_interactions
from jobs.scores._recommender_fit import find_segments
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows
from jobs.storage.table import Table

SCHEMA = f"""
    customer_id STRING COMMENT 'Customer',
    day DATE COMMENT 'As of the end of this day, in the business time zone',
    rank INT COMMENT 'Place in the list of the customer, 1 to {LENGTH}',
    product_id STRING COMMENT 'Product',
    score DOUBLE COMMENT 'By what the list is in order, above 0; comparable within a customer',
    method STRING COMMENT 'The largest part of the score: {", ".join(COMPONENTS)}',
    model_version STRING COMMENT 'Version of the recommender'"""
TABLE = Table(
    "scores.recommendations",
    f"One row per active customer, day and rank: the {LENGTH} products to offer.",
    SCHEMA,
    partition="day",
    checks={
        "has_customer": "customer_id IS NOT NULL",
        "has_product": "product_id IS NOT NULL",
        "a_place": f"rank BETWEEN 1 AND {LENGTH}",
        "above_nothing": "score > 0",
    },
)
CUSTOMERS_PER_BUCKET = 50_000


def recommend_products(tables: Tables, recommender: Recommender, version: str, day: date, shop: Shop) -> Tables:
    """Return scores.recommendations as `recommendations`; the key is the customer.

    Takes `customers` (customer_id, is_active), `segments` (customer_id, segment_id), and `orders` and `events` with the columns
    of interactions_of(). Sorted by customer and rank. One thread, because workers share the CPUs.
    """
    active = to_frame(tables["customers"]).filter("is_active")["customer_id"].sort()
    weighed = weigh_signals(list_signals(tables, day, shop), day)
    interactions = number_interactions(weighed, active, recommender.products)
    segments = find_segments(active, to_frame(tables["segments"]))
    with threadpool_limits(1, "blas"):
        lists = recommender.recommend(interactions, segments)
    is_shown = lists.products >= 0
    customers, places = np.nonzero(is_shown)
    products = recommender.products["product_id"][recommender.offered][lists.products[is_shown]]
    rows = pl.DataFrame(
        {
            "customer_id": active[customers],
            "rank": (places + 1).astype(np.int32),
            "product_id": products,
            "score": lists.scores[is_shown],
            "method": pl.Series(COMPONENTS)[lists.components[is_shown]],
        }
    )
    rows = rows.with_columns(day=pl.lit(day), model_version=pl.lit(version))
    return {"recommendations": rows.select(TABLE.columns).to_arrow().cast(TABLE.arrow_schema)}


def run(lake: Lake, settings: Settings, day: date, retrain: bool) -> str | None:
    """Write the recommendations of the day by its champion, which is fitted first where it is due or `retrain` asks for it.

    Returns why there are none.
    """
    champion = _recommender_training.prepare_champion(lake, settings, day, retrain)
    if isinstance(champion, str):
        lake.replace_rows(TABLE, TABLE.arrow_schema.empty_table(), [day])
        return champion
    version, recommender = champion
    shop = read_shop(lake, settings, day)
    inputs = {
        "customers": Rows(ACTIVE, "customer_id", ("customer_id", "is_active"), [day]),
        "segments": segments_of(day),
        **interactions_of(lake, shop, day),
    }
    n_customers = lake.count_rows(ACTIVE.name, [day])
    opened = lake.open_for_write(TABLE)
    with open_runner(lake, settings, n_customers) as runner:
        n_buckets = max(1, -(-n_customers // CUSTOMERS_PER_BUCKET))
        kernel = partial(recommend_products, recommender=recommender, version=version, day=day, shop=shop)
        written = runner.run(kernel, runner.read(inputs, n_buckets), {"recommendations": Write(TABLE)})
        opened.commit(written.files["recommendations"], [day])
    return None
