"""One row per published run: the manifest that says what BI may rely on; written last.

Input: the versions of all tables of the lake, and quality.reconciliation of the day where it exists. Times are those of
the command line. A rerun of the same day and run id replaces its row.
"""

from jobs.lake import Table

SCHEMA = """
    run_id STRING COMMENT 'The run that published, as the scheduler names it',
    day DATE COMMENT 'The day that was published',
    started_at TIMESTAMP COMMENT 'Start of the run, UTC',
    finished_at TIMESTAMP COMMENT 'When everything but this row was written, UTC',
    status STRING COMMENT 'published',
    model_version STRING COMMENT 'Version of the encoder',
    n_customers BIGINT COMMENT 'Customers in marts.customer_segments on the day',
    n_events BIGINT COMMENT 'Rows of clean.events of the day; null where not known',
    n_orders BIGINT COMMENT 'Rows of clean.orders of the day; null where not known',
    n_rejects BIGINT COMMENT 'Rows of the day that cleaning refused; null where not known',
    table_versions MAP<STRING,BIGINT> COMMENT 'Delta version of each table of the lake when the day was published'
"""
TABLE = Table(
    "marts.refreshes",
    "One row per published run: what was published, from what, and with which versions of the tables.",
    SCHEMA,
    checks={"has_run": "run_id IS NOT NULL AND day IS NOT NULL"},
)
