"""One row per published run: the manifest that says what BI may rely on; written last.

Input: the versions of all tables of the lake, and quality.reconciliation of the day where it exists. Times are those of
the command line. A rerun of the same day and run id replaces its row.
"""

from datetime import date, datetime

import pyarrow.dataset as ds

from jobs.flow import TABLES
from jobs.lake import Lake, Table, quoted
from jobs.marts import _members
from jobs.settings import Settings

RECONCILIATION = "quality.reconciliation"

SCHEMA = """
    run_id STRING COMMENT 'The run that published, as the scheduler names it',
    day DATE COMMENT 'The day that was published',
    started_at TIMESTAMP COMMENT 'Start of the run, UTC',
    finished_at TIMESTAMP COMMENT 'When everything but this row was written, UTC',
    status STRING COMMENT 'published',
    model_version STRING COMMENT 'Version of the encoder',
    n_customers BIGINT COMMENT 'Customers known on the day, dormant ones included',
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


def refreshes(facts: dict, counts: dict[str, int | None], table_versions: dict[str, int]) -> list[dict]:
    """run_id, day, times, model_version, n_customers; the counts of cleaning; the versions -> the manifest row."""
    return [facts | {"status": "published"} | counts | {"table_versions": table_versions}]


def _counts(lake: Lake, day: date) -> dict[str, int | None]:
    counted = lake.look_up(RECONCILIATION, ["table", "rows_out", "rejects"], ds.field("day") == day)
    if not counted:
        return {"n_events": None, "n_orders": None, "n_rejects": None}
    out = {row["table"]: row["rows_out"] for row in counted}
    refused = sum(n for row in counted if row["table"].startswith("clean.") for _, n in row["rejects"] or ())
    return {"n_events": out.get("clean.events"), "n_orders": out.get("clean.orders"), "n_rejects": refused}


def run(lake: Lake, settings: Settings, day: date, run_id: str, started_at: datetime, finished_at: datetime) -> None:
    """Write the manifest row of a run whose tables are all written; both times with time zone."""
    version, n_customers = _members.assigned(lake, day)
    names = [f"{layer}.{table}" for layer, tables in TABLES.items() for table in tables]
    versions = {name: lake.version(name) for name in names if name != TABLE.name and lake.exists(name)}
    facts = {
        "run_id": run_id,
        "day": day,
        "started_at": started_at,
        "finished_at": finished_at,
        "model_version": version,
        "n_customers": n_customers,
    }
    rows = refreshes(facts, _counts(lake, day), versions)
    lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA), f"day = DATE'{day}' AND run_id = {quoted(run_id)}")
