"""One row per segment and day: its size, its money and its traits compared with the average active customer.

Input: features.customers, segments.assignments, segments.definitions. A segment with fewer customers than
`segment.min_cell` is not published, and neither is a smaller number of outliers.
"""

import json
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import catalogue, traits
from jobs.config.settings import Settings
from jobs.marts import _members
from jobs.storage.lake import Lake
from jobs.storage.table import Table
from jobs.storage.vectors import to_matrix
from jobs.traits import DORMANT, Trait

MONEY_STEP = Decimal("0.0001")  # of DECIMAL(18,4)

SCHEMA = """
    day DATE COMMENT 'As of the end of this day, in the business time zone',
    segment_id INT COMMENT 'Segment; 0: dormant',
    segment_name STRING COMMENT 'Name of the segment',
    n_customers BIGINT COMMENT 'Customers in the segment',
    share DOUBLE COMMENT 'Share of all customers of the day, dormant ones included, 0 to 1',
    n_outliers BIGINT COMMENT 'Customers far from the centre or unlike others; null: some, but too few to publish',
    orders_365d BIGINT COMMENT 'Orders of the segment in the last 365 days',
    orders_365d_per_customer DOUBLE COMMENT 'Orders per customer',
    net_365d DECIMAL(18,4) COMMENT 'Net amount of the segment in the last 365 days, home currency',
    net_365d_per_customer DECIMAL(18,4) COMMENT 'Net amount per customer, home currency',
    net_share DOUBLE COMMENT 'Share of the net amount of all customers; null where that is not positive',
    typical_recency_days DOUBLE COMMENT 'Median of the days since the last event or order',
    traits ARRAY<STRUCT<
        feature: STRING COMMENT 'Name of the feature',
        meaning: STRING COMMENT 'What the feature says',
        typical: DOUBLE COMMENT 'Mean of the segment, in the unit of the feature',
        overall: DOUBLE COMMENT 'Mean of all active customers',
        effect: DOUBLE COMMENT '(typical - overall) / standard deviation of all active customers',
        low: DOUBLE COMMENT 'Lower end of the 95 % interval of the effect',
        high: DOUBLE COMMENT 'Upper end of the 95 % interval of the effect'
    >> COMMENT 'Differences from the average active customer, strongest first; none for dormant',
    model_version STRING COMMENT 'Version of the encoder'
"""
TABLE = Table(
    "marts.segment_profiles",
    "One row per segment and day: size, money and what marks the segment.",
    SCHEMA,
    partition="day",
    checks={"segment_not_negative": "segment_id >= 0"},
)


_SUMS = """
    SELECT segment_id, count(*) AS n_customers, count_if(is_outlier) AS n_outliers,
        CAST(sum(orders_365d) AS BIGINT) AS orders_365d, CAST(sum(net_365d) AS DECIMAL(18,4)) AS net_365d,
        CAST(median(recency_days) AS DOUBLE) AS typical_recency_days, any_value(model_version) AS model_version
    FROM assignments INNER JOIN customers USING (customer_id)
    GROUP BY segment_id
    ORDER BY segment_id
"""
_CUSTOMERS = ("customer_id", "recency_days", "orders_365d", "net_365d")
_ASSIGNMENTS = ("customer_id", "segment_id", "is_outlier", "model_version")


def sum_segments(customers: pa.Table, assignments: pa.Table) -> list[dict]:
    """Return, by segment, the customers, their outliers, orders and money, and the median of their silence.

    Both have one row per customer of a day, with these columns of _members.CUSTOMER_COLUMNS and SEGMENT_COLUMNS. About 0.3 µs
    of CPU a customer.
    """
    with duckdb.connect() as connection:  # not the shared one, which serves one thread
        connection.register("customers", customers)
        connection.register("assignments", assignments)
        return connection.sql(_SUMS).to_arrow_table().to_pylist()


def profile_segments(
    sums: list[dict], names: dict[int, str], segment_traits: dict[int, list[Trait]], day: date, min_cell: int
) -> list[dict]:
    """Return the rows of marts.segment_profiles, from sum_segments() and the names and traits by segment id."""
    n_customers = sum(row["n_customers"] for row in sums)
    net = sum(row["net_365d"] or 0 for row in sums)
    return [
        row
        | {
            "day": day,
            "segment_name": names[row["segment_id"]],
            "n_outliers": row["n_outliers"] if row["n_outliers"] >= min_cell or row["n_outliers"] == 0 else None,
            "share": row["n_customers"] / n_customers,
            "orders_365d_per_customer": (row["orders_365d"] or 0) / row["n_customers"],
            "net_365d_per_customer": _per_customer(row["net_365d"], row["n_customers"]),
            "net_share": float((row["net_365d"] or 0) / net) if net > 0 else None,
            "traits": [trait._asdict() for trait in segment_traits.get(row["segment_id"], [])],  # the dormant segment has none
        }
        for row in sums
        if row["n_customers"] >= min_cell
    ]


def _per_customer(total: Decimal | None, n: int) -> Decimal | None:
    return None if total is None else (total / n).quantize(MONEY_STEP, ROUND_HALF_EVEN)


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Publish the profiles of the day."""
    customers = _members.read_rows(_members.scan_customers(lake, [day], _CUSTOMERS))
    _members.read_assigned_model(lake, day)
    assignments = _members.read_rows(_members.scan_assignments(lake, day, _ASSIGNMENTS))
    segment_traits = traits.rank_traits(_measure_features(lake, day, assignments), catalogue.FEATURES)
    names = _members.read_segment_names(lake, day)
    rows = profile_segments(sum_segments(customers, assignments), names, segment_traits, day, settings.segment.min_cell)
    lake.replace_rows(TABLE, pa.Table.from_pylist(rows, TABLE.arrow_schema), [day])


def _measure_features(lake: Lake, day: date, assignments: pa.Table) -> traits.Statistics:
    """Return the moments of the features of the active customers by segment."""
    features = json.loads(lake.properties("features.customers")["shoal.vector"])
    scan = _members.scan_vectors(lake, day)
    n_active = lake.count_by(scan.table, ["day"], scan.where)[(day,)]
    vectors, ids = np.empty((n_active, len(features)), dtype=np.float32), []
    for batch in _members.read_batches(scan):
        start = sum(map(len, ids))
        vectors[start : start + batch.num_rows] = to_matrix(batch["vector"])
        ids.append(batch["customer_id"].combine_chunks())
    active = assignments.filter(pc.not_equal(assignments["segment_id"], DORMANT))
    positions = pc.index_in(pa.chunked_array(ids, pa.string()), value_set=active["customer_id"])
    segments = active["segment_id"].take(positions)
    if segments.null_count:  # customers who became active after the day was segmented
        vectors, segments = vectors[segments.is_valid().to_numpy()], segments.drop_null()
    return traits.feature_statistics(vectors, segments.to_numpy(), features)
