"""marts.refreshes: one row per run, the manifest of what BI may rely on."""

import shutil
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.errors import UserError
from jobs.marts import refreshes
from jobs.quality import reconciliation
from jobs.quality.omissions import write_omissions
from jobs.segments import candidates
from tests.jobs.conftest import FIRST, LAST, SECOND
from tests.jobs.marts.shop import to_arrow

STARTED, FINISHED = datetime(2024, 3, 5, 2, 0, tzinfo=UTC), datetime(2024, 3, 5, 2, 4, tzinfo=UTC)


def test_a_rerun_replaces_its_row_and_another_run_adds_one(shop):
    for run_id in ("manual__it's", "other", "manual__it's"):
        refreshes.run(shop.lake, shop.settings, LAST, run_id, STARTED, FINISHED)

    rows = shop.rows(refreshes, "run_id")
    assert [row["run_id"] for row in rows] == ["manual__it's", "other"]
    row = rows[0]
    assert (row["day"], row["status"], row["model_version"], row["n_customers"]) == (LAST, "published", "v2", 226)
    assert (row["started_at"], row["finished_at"], row["engine"]) == (STARTED, FINISHED, None)
    versions = dict(row["table_versions"])
    assert versions["marts.customer_segments"] == shop.lake.version("marts.customer_segments")
    assert "features.customers" in versions
    assert "clean.orders" not in versions  # this shop has no orders table
    assert (row["n_events"], row["n_orders"], row["n_rejects"]) == (None, None, None)


def test_the_manifest_has_the_last_decision_of_the_gate_and_its_measures(lake):
    measures = {"stability": 0.9, "common_davies_bouldin": 1.5, "separation": 0.2, "separation_low": 0.1, "separation_high": 0.3}
    rows = [
        {
            "model_version": "v1",
            "day": FIRST,
            "k": 4,
            "chosen": True,
            "representation": "pca",
            "decision": "pca: best",
            **measures,
        },
        {"model_version": "v1", "day": FIRST, "k": 5, "chosen": False, "representation": "pca", "decision": "pca: best"},
        {
            "model_version": "v2",
            "day": LAST,
            "k": 3,
            "chosen": False,
            "representation": "live",
            "decision": "live: on",
            **measures,
        },
    ]
    # Another model was evaluated on that day and is not published either.
    rows.append(rows[-1] | {"model_version": "v0", "decision": "live: earlier"})
    lake.replace_rows(candidates.TABLE, to_arrow(candidates.TABLE, rows))

    assert refreshes._read_decision(lake, "v1", SECOND) == {
        "representation": "pca", "decision": "pca: best", "decided_on": FIRST,
        "judged": [{"representation": "pca", "k": 4, **measures}],
    }  # fmt: skip
    later = refreshes._read_decision(lake, "v1", LAST)
    assert (later["representation"], later["decision"], len(later["judged"])) == ("pca", "live: on", 1)
    assert refreshes._read_decision(lake, "v0", LAST)["decision"] == "live: earlier"


def test_counts_come_from_the_reconciliation_of_the_day(lake):
    columns = ("table", "day", "rows_in", "rows_out", "rejects")
    rows = [
        ("clean.events", LAST, 12, 10, [("no_time", 2)]),
        ("clean.orders", LAST, 9, 6, [("no_price", 1), ("no_rate", 2)]),
        ("clean.products", LAST, 5, 5, []),
        ("clean.events", FIRST, 7, 7, []),
    ]
    lake.replace_rows(
        reconciliation.TABLE, to_arrow(reconciliation.TABLE, [dict(zip(columns, row, strict=True)) for row in rows])
    )

    assert refreshes._count_cleaned_rows(lake, LAST) == {"n_events": 10, "n_orders": 6, "n_rejects": 5}
    assert refreshes._count_cleaned_rows(lake, LAST.replace(day=9)) == {"n_events": None, "n_orders": None, "n_rejects": None}


def test_the_row_names_the_engine_and_an_older_table_gains_the_column(shop, lake):
    shutil.copytree(shop.lake.root, lake.root)
    older = lake.read_arrow(refreshes.TABLE).drop_columns(["engine"])
    shutil.rmtree(lake.path("marts.refreshes"), ignore_errors=True)
    row = pa.Table.from_pylist([{"run_id": "old", "day": FIRST}], older.schema)
    write_deltalake(lake.path("marts.refreshes"), row)

    refreshes.run(lake, shop.settings, LAST, "new", STARTED, FINISHED, engine="local")

    rows = lake.read_arrow(refreshes.TABLE).sort_by("run_id").to_pylist()
    assert [(row["run_id"], row["engine"]) for row in rows] == [("new", "local"), ("old", None)]


def test_the_row_says_what_the_day_lacks(shop, lake):
    shutil.copytree(shop.lake.root, lake.root)
    write_omissions(lake, LAST, {"scores.recommendations": "nobody bought a product"})
    refreshes.run(lake, shop.settings, LAST, "run", STARTED, FINISHED)
    (row,) = (row for row in lake.read_arrow(refreshes.TABLE).to_pylist() if row["run_id"] == "run")
    assert row["omissions"] == ["scores.recommendations: nobody bought a product"]


def test_a_day_that_was_not_segmented_is_refused(shop):
    with pytest.raises(UserError, match=r"segments.assignments has no rows on 2024-03-03"):
        refreshes.run(shop.lake, shop.settings, LAST.replace(day=3), "r", STARTED, FINISHED)
