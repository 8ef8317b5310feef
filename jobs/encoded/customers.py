"""One row per customer and day: the vector that the day's champion gives the customer.

Input: features.customers and the champion's encoder, which holds all preprocessing (scaling, imputation). Dormant
customers are encoded too. A day is encoded with the model that was champion on it.
"""

from jobs.lake import Table

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    day DATE COMMENT 'As of the end of this day, UTC',
    model_version STRING COMMENT 'Version of the encoder',
    vector ARRAY<FLOAT> COMMENT 'Coordinates in the space of this model; not comparable across models',
    reconstruction_error DOUBLE COMMENT 'Mean squared error in scaled units; high: the model has not seen such customers'
"""
TABLE = Table(
    "encoded.customers",
    "One row per customer and day: the vector that the encoder of the day gives the customer.",
    SCHEMA,
    partition="day",
    checks={"has_customer": "customer_id IS NOT NULL", "has_vector": "vector IS NOT NULL"},
)
