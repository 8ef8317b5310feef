"""One row per published run: the manifest of what BI may rely on; it is written last.

Input: the versions of all tables of the lake, segments.candidates, and quality.reconciliation of the day where it exists.
The command line gives the times. A rerun of the same day and run id replaces its row.
"""

from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.flow import TABLES
from jobs.marts import _members
from jobs.quality.omissions import read_omissions
from jobs.storage.commits import write_files
from jobs.storage.lake import Lake
from jobs.storage.table import Table

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
    n_events BIGINT COMMENT 'Rows of clean.events of the day; null: not known',
    n_orders BIGINT COMMENT 'Rows of clean.orders of the day; null: not known',
    n_rejects BIGINT COMMENT 'Rows of the day that cleaning refused; null: not known',
    table_versions MAP<STRING,BIGINT> COMMENT 'Delta version of each table of the lake when the day was published',
    representation STRING COMMENT 'What customers are clustered by, see segments.candidates',
    decision STRING COMMENT 'The last decision of the gate up to the day, and why',
    decided_on DATE COMMENT 'Day of that decision',
    judged ARRAY<STRUCT<
        representation: STRING COMMENT 'As of segments.candidates; live: the live model',
        k: INT COMMENT 'Number of clusters',
        stability: DOUBLE COMMENT 'Mean adjusted Rand index over pairs of resamples of the customers',
        separation: DOUBLE COMMENT 'Share of the variance of later revenue, orders and churn that the clusters of a day explain',
        separation_low: DOUBLE COMMENT 'Lower end of the 95 % interval of the separation',
        separation_high: DOUBLE COMMENT 'Upper end of the 95 % interval of the separation',
        common_davies_bouldin: DOUBLE COMMENT 'Davies-Bouldin index in the space of the features and groups, lower is better'
    >> COMMENT 'The measures that the gate compared',
    engine STRING COMMENT 'What carried the kernels: local (processes of one machine) or spark; null: not known',
    omissions ARRAY<STRING> COMMENT 'What the day lacks: table of scores, and why; empty where it lacks nothing'
"""
TABLE = Table(
    "marts.refreshes",
    "One row per published run: what was published, from what, and with which versions of the tables.",
    SCHEMA,
    checks={"has_run": "run_id IS NOT NULL AND day IS NOT NULL"},
)


def build_manifest(facts: dict, counts: dict[str, int | None], table_versions: dict[str, int]) -> pa.Table:
    """Return the row of marts.refreshes.

    `facts` are the columns of the run and of the gate, `counts` those of cleaning, `table_versions` the Delta version by table.
    """
    row = facts | {"status": "published"} | counts | {"table_versions": list(table_versions.items())}
    return pa.Table.from_pylist([row], TABLE.arrow_schema)


def _count_cleaned_rows(lake: Lake, day: date) -> dict[str, int | None]:
    rows = lake.read_small_table(RECONCILIATION, ["table", "rows_out", "rejects"], ds.field("day") == day)
    if not rows:
        return {"n_events": None, "n_orders": None, "n_rejects": None}
    rows_out = {row["table"]: row["rows_out"] for row in rows}
    n_rejects = sum(n for row in rows if row["table"].startswith("clean.") for _, n in row["rejects"] or ())
    return {"n_events": rows_out.get("clean.events"), "n_orders": rows_out.get("clean.orders"), "n_rejects": n_rejects}


def _read_decision(lake: Lake, version: str, day: date) -> dict:
    """Return the last decision of the gate up to `day` with its measures, and the representation that is published.

    Of decisions about several models on the same day it is the one about the published model `version`, if there is one.
    """
    rows = [row for row in lake.read_small_table(CANDIDATES, where=ds.field("day") <= day) if row.get("decision")]

    def rank(row: dict) -> tuple[date, bool, str]:
        return row["day"], row["model_version"] == version, row["model_version"]

    last = max(map(rank, rows), default=None)
    decided = [row for row in rows if rank(row) == last]
    chosen = next((row for row in rows if row["model_version"] == version and row["chosen"]), {})
    return {
        "representation": chosen.get("representation"),
        "decision": decided[0]["decision"] if decided else None,
        "decided_on": decided[0]["day"] if decided else None,
        "judged": [{name: row[name] for name in _MEASURES} for row in decided if row["common_davies_bouldin"] is not None],
    }


_MEASURES = (
    "representation", "k", "stability", "separation", "separation_low", "separation_high", "common_davies_bouldin",
)  # fmt: skip


def run(
    lake: Lake, settings: Settings, day: date, run_id: str, started_at: datetime, finished_at: datetime, engine: str | None = None
) -> None:
    """Write the manifest row of a run, after all its tables; both times have a time zone."""
    version, n_customers = _members.read_assigned_model(lake, day)
    names = [f"{layer}.{table}" for layer, tables in TABLES.items() for table in tables]
    versions = {name: lake.version(name) for name in names if name != TABLE.name and lake.exists(name)}
    facts = {
        "run_id": run_id,
        "day": day,
        "started_at": started_at,
        "finished_at": finished_at,
        "model_version": version,
        "n_customers": n_customers,
        "engine": engine,
        "omissions": read_omissions(lake, day),
    } | _read_decision(lake, version, day)
    _replace_row(lake, build_manifest(facts, _count_cleaned_rows(lake, day), versions))


def _replace_row(lake: Lake, row: pa.Table) -> None:
    """Put the row in the place of the one of the same day and run."""
    opened = lake.open_for_write(TABLE)
    stored = lake.read_arrow(TABLE)
    is_same = pc.and_(pc.equal(stored["day"], row["day"][0]), pc.equal(stored["run_id"], row["run_id"][0]))
    opened.commit(write_files(lake.root, TABLE, pa.concat_tables([stored.filter(pc.invert(is_same)), row])), None)
