"""One row per published run: the manifest that says what BI may rely on; written last.

Input: the versions of all tables of the lake, segments.candidates, and quality.reconciliation of the day where it exists.
Times are those of the command line. A rerun of the same day and run id replaces its row.
"""

from datetime import date, datetime

import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.flow import TABLES
from jobs.marts import _members
from jobs.storage.lake import Lake
from jobs.storage.table import Table, quote_sql

RECONCILIATION = "quality.reconciliation"
CANDIDATES = "segments.candidates"

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
    table_versions MAP<STRING,BIGINT> COMMENT 'Delta version of each table of the lake when the day was published',
    representation STRING COMMENT 'By what of the encoder customers are clustered: learned, pca or features',
    decision STRING COMMENT 'What the gate last decided, up to the day, and why',
    decided_on DATE COMMENT 'The day it did',
    judged ARRAY<STRUCT<
        representation: STRING COMMENT 'learned, pca, features, or live: what was published before',
        k: INT COMMENT 'Number of clusters',
        stability: DOUBLE COMMENT 'Mean adjusted Rand index over pairs of resamples of the customers',
        separation: DOUBLE COMMENT 'Share of the variance of revenue, orders and churn after a day that its clusters told',
        separation_low: DOUBLE COMMENT 'Lower end of its 95 % interval',
        separation_high: DOUBLE COMMENT 'Upper end of its 95 % interval',
        common_davies_bouldin: DOUBLE COMMENT 'Davies-Bouldin index in the space of the scaled features, lower is better'
    >> COMMENT 'The figures it decided by'
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
    counted = lake.read_small_table(RECONCILIATION, ["table", "rows_out", "rejects"], ds.field("day") == day)
    if not counted:
        return {"n_events": None, "n_orders": None, "n_rejects": None}
    out = {row["table"]: row["rows_out"] for row in counted}
    refused = sum(n for row in counted if row["table"].startswith("clean.") for _, n in row["rejects"] or ())
    return {"n_events": out.get("clean.events"), "n_orders": out.get("clean.orders"), "n_rejects": refused}


def _gate(lake: Lake, version: str, day: date) -> dict:
    """What segments.candidates says of the last decision up to `day`, and of what is published.

    Of models that were judged on the same day it is the one that is published, where that is one of them.
    """
    tried = [row for row in lake.read_small_table(CANDIDATES, where=ds.field("day") <= day) if row.get("decision")]
    judged = [(row["day"], row["model_version"] == version, row["model_version"]) for row in tried]
    of_last = [row for row, one in zip(tried, judged, strict=True) if one == max(judged)]
    chosen = next((row for row in tried if row["model_version"] == version and row["chosen"]), {})
    return {
        "representation": chosen.get("representation"),
        "decision": of_last[0]["decision"] if of_last else None,
        "decided_on": of_last[0]["day"] if of_last else None,
        "judged": [{name: row[name] for name in _JUDGED} for row in of_last if row["common_davies_bouldin"] is not None],
    }


_JUDGED = (
    "representation", "k", "stability", "separation", "separation_low", "separation_high", "common_davies_bouldin",
)  # fmt: skip


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
    } | _gate(lake, version, day)
    rows = refreshes(facts, _counts(lake, day), versions)
    lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA), f"day = DATE'{day}' AND run_id = {quote_sql(run_id)}")
