"""What each customer who ever ordered is expected to order and spend, and whether they are still a customer, as of a day.

Input: features.customers and segments.assignments of the day, and the champion of the models of values. A model is published
only where its forecasts of the last 90 days were better than those of two plain rules; else the rows come from the better rule,
which knows no p_alive. `method` says which it was.
"""

from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa

from jobs.config.settings import Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Tables, Write
from jobs.scores import _training
from jobs.scores._forecasts import (
    SEGMENT_MEAN,
    Means,
    ValueModel,
    describe_purchases,
    make_forecast,
    mean_by_segment,
    probability_alive,
)
from jobs.scores._inputs import customers_of, read_buyers, segments_of
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.table import Table

HORIZONS = (30, 90, 365)  # days
_MOST_NET = 1e13  # of a forecast, so that it fits into its column

SCHEMA = ",\n    ".join(
    [
        "customer_id STRING COMMENT 'Customer'",
        "day DATE COMMENT 'As of the end of this day, in the business time zone'",
        "model_version STRING COMMENT 'Version of the model of values'",
        "method STRING COMMENT 'bg_nbd, mbg_nbd: a fitted model; last_period: as the last 90 days; segment_mean: as the segment'",
        "p_alive DOUBLE COMMENT 'Probability of being a customer still, 0 to 1; null where method is a plain rule'",
        *(f"expected_orders_{n}d DOUBLE COMMENT 'Expected days with an order in the next {n} days'" for n in HORIZONS),
        *(
            f"expected_net_{n}d DECIMAL(18,4) COMMENT 'Expected money after discounts and returns in the next {n} days'"
            for n in HORIZONS
        ),
    ]
)
TABLE = Table(
    "scores.customer_values",
    "One row per customer who ever ordered, and day: what they are expected to order and spend.",
    SCHEMA,
    partition="day",
    checks={
        "has_customer": "customer_id IS NOT NULL",
        "a_probability": "p_alive IS NULL OR p_alive BETWEEN 0 AND 1",
        "not_negative": "expected_orders_30d >= 0 AND expected_net_30d >= 0",
        "longer_holds_more": "expected_orders_30d <= expected_orders_90d AND expected_orders_90d <= expected_orders_365d",
    },
)


def score_customers(tables: Tables, model: ValueModel, version: str, means: Means) -> Tables:
    """Return scores.customer_values as `values`; the key is the customer.

    Takes `customers`, the columns COLUMNS of features.customers, and `segments` (customer_id, segment_id). `means` are those of
    mean_by_segment() over all customers, which only SEGMENT_MEAN needs. Sorted by customer. About 2 µs of CPU a customer and
    20 µs a different history.
    """
    buyers = describe_purchases(to_frame(tables["customers"]))
    buyers = buyers.join(to_frame(tables["segments"]), "customer_id", "left").sort("customer_id")
    alive = probability_alive(model, buyers)
    columns = {"customer_id": buyers["customer_id"].to_arrow(), "day": buyers["day"].to_arrow()}
    constants = {"model_version": version, "method": model.method}
    columns |= {name: pa.repeat(pa.scalar(text, pa.string()), len(buyers)) for name, text in constants.items()}
    columns["p_alive"] = pa.nulls(len(buyers), pa.float64()) if alive is None else pa.array(alive)
    for days in HORIZONS:
        forecast = make_forecast(model, buyers, days, means)
        columns[f"expected_orders_{days}d"] = pa.array(forecast.orders, pa.float64())
        columns[f"expected_net_{days}d"] = pa.array(np.minimum(forecast.net, _MOST_NET), pa.float64()).cast(pa.decimal128(18, 4))
    return {"values": pa.table(columns).select(TABLE.columns).cast(TABLE.arrow_schema)}


def run(lake: Lake, settings: Settings, day: date, retrain: bool) -> str | None:
    """Write the values of the day, by the champion of the day, which is fitted first where it is due or `retrain` asks for it.

    Returns in words why nothing, or only the mean of the segment, is known of customers; None where a model or rule was chosen.
    """
    champion = _training.prepare_champion(lake, settings, day, retrain)
    if champion is None:
        lake.replace_rows(TABLE, TABLE.arrow_schema.empty_table(), [day])
        return f"no customer has an order by {day}"
    version, model = champion
    means = mean_by_segment(read_buyers(lake, day)) if model.method == SEGMENT_MEAN else {}
    n_rows = lake.count_rows("features.customers", [day])
    opened = lake.open_for_write(TABLE)
    with open_runner(lake, settings, n_rows) as runner:
        inputs = runner.read({"customers": customers_of(day), "segments": segments_of(day)}, count_buckets(n_rows, at_once=2))
        kernel = partial(score_customers, model=model, version=version, means=means)
        opened.commit(runner.run(kernel, inputs, {"values": Write(TABLE, gather=True)}).files["values"], [day])
    return f"all have the mean of their segment, {reason}" if (reason := _training.find_obstacle_of(settings, version)) else None
