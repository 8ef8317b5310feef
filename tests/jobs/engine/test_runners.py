"""Runners: the same rows whatever carries the kernel, in however many buckets, and one line where a worker dies."""

import os
import re
import subprocess
import sys
import time
from datetime import date, timedelta
from functools import partial

import polars as pl
import pyarrow as pa
import pytest

from jobs.engine import buckets, local
from jobs.engine.local import LocalRunner
from jobs.engine.spark import SparkRunner
from jobs.engine.tasks import COLLECT, KEEP, Call, Produced, Write
from jobs.errors import UserError
from jobs.storage import scratch
from jobs.storage.commits import replace_rows
from jobs.storage.rows import Rows
from jobs.storage.table import Table

VISITS = Table("clean.visits", "Visits.", "visitor STRING NOT NULL, day DATE NOT NULL, n BIGINT", "day")
TOTALS = Table(
    "clean.totals", "Totals.", "visitor STRING NOT NULL, day DATE NOT NULL, total BIGINT", "day", {"some": "total > 0"}
)
DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(5)]


def add_up(tables: dict[str, pa.Table], factor: int = 1) -> dict[str, pa.Table]:
    """Each visitor's running total, by day; which needs all rows of a visitor."""
    visits = pl.DataFrame(pl.from_arrow(tables["visits"])).sort("visitor", "day")
    totals = visits.with_columns(total=pl.col("n").cum_sum().over("visitor") * factor).drop("n").sort("day", maintain_order=True)
    visitors = totals.select("visitor").unique()
    return {"totals": totals.to_arrow(), "visitors": visitors.to_arrow(), "again": tables["visits"]}


def die(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    os._exit(1)


def produce(task: int):
    for day in DAYS:
        yield pa.Table.from_pylist([{"visitor": f"v{task}", "day": day, "n": task}], VISITS.arrow_schema)


def run(runner, lake, n_buckets):
    """The table written, and the visitors collected, by two kernels of which the second has what the first kept."""
    outputs = {"totals": Write(TOTALS, gather=True), "visitors": COLLECT, "again": KEEP}
    first = runner.run(add_up, runner.read({"visits": Rows(VISITS, "visitor")}, n_buckets), outputs)
    second = runner.run(partial(add_up, factor=2), {"visits": first.kept["again"]}, outputs)
    lake.open_for_write(TOTALS).commit(second.files["totals"], DAYS)
    runner.close()
    return sorted(map(str, lake.read_small_table(TOTALS))), sorted(first.collected["visitors"]["visitor"].to_pylist())


@pytest.fixture
def visits(lake):
    rows = [{"visitor": f"v{v}", "day": day, "n": v + 1} for v in range(40) for day in DAYS[v % 3 :]]
    replace_rows(lake.root, VISITS, pa.Table.from_pylist(rows, VISITS.arrow_schema))
    return lake


def test_any_number_of_buckets_and_workers_gives_the_same_rows_in_one_file_a_day(visits):
    in_memory = run(LocalRunner(visits.root), visits, 1)
    assert len(in_memory[0]) == 161
    assert len(in_memory[1]) == 40
    assert run(LocalRunner(visits.root, workers=2), visits, 7) == in_memory
    paths = visits.open_for_write(TOTALS).stored.file_uris()
    assert len(paths) == len(DAYS)


@pytest.fixture
def uneven_visits(visits, monkeypatch):
    """One visitor has more rows than all others together."""
    rows = visits.read_arrow(VISITS)
    many = pa.Table.from_pylist([{"visitor": "v9", "day": DAYS[n % 5], "n": 10} for n in range(300)], VISITS.arrow_schema)
    replace_rows(visits.root, VISITS, pa.concat_tables([rows, many]))
    monkeypatch.setattr(buckets, "MIN_ROWS", 1)
    return visits


def count_by_visitor(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """The rows of each visitor, of those kept and of those stored; and the number of visitors who were given at once."""
    kept, stored = (pl.DataFrame(pl.from_arrow(tables[name])).group_by("visitor").len(name) for name in ("kept", "stored"))
    n_rows = kept.join(stored, "visitor", "full", coalesce=True).with_columns(together=pl.len()).sort("visitor")
    return {"n_rows": n_rows.to_arrow()}


def count_kept_and_stored(runner, n_buckets):
    """The rows of each visitor by a kernel that has what another kept, and rows that are read after it."""
    kept = runner.run(add_up, runner.read({"visits": Rows(VISITS, "visitor")}, n_buckets), {"again": KEEP}).kept["again"]
    inputs = {"kept": kept, **runner.read({"stored": Rows(VISITS, "visitor")}, n_buckets)}
    n_rows = [runner.run(count_by_visitor, inputs, {"n_rows": COLLECT}).collected["n_rows"] for _ in range(2)]
    runner.close()
    assert n_rows[0] == n_rows[1]
    return sorted(n_rows[0].to_pylist(), key=lambda row: row["visitor"])


def test_a_bucket_with_far_more_rows_than_others_is_split_and_gives_the_same_rows(uneven_visits):
    in_memory = run(LocalRunner(uneven_visits.root), uneven_visits, 1)
    assert run(LocalRunner(uneven_visits.root, workers=2), uneven_visits, 3) == in_memory


def test_kept_rows_of_a_bucket_that_was_split_meet_the_stored_rows_of_their_keys(uneven_visits, monkeypatch):
    split = count_kept_and_stored(LocalRunner(uneven_visits.root, workers=1), 3)
    assert len(split) == 40
    assert all(row["kept"] == row["stored"] for row in split)
    monkeypatch.setattr(buckets, "MIN_ROWS", 1_000)
    whole = count_kept_and_stored(LocalRunner(uneven_visits.root, workers=1), 3)
    together = [next(row["together"] for row in rows if row["visitor"] == "v9") for rows in (split, whole)]
    assert 1 <= together[0] < together[1]


def test_a_key_with_too_many_rows_is_processed_alone_and_named_in_one_line(uneven_visits, monkeypatch, capsys):
    monkeypatch.setattr(local, "_MAX_ROWS", 100)
    runner = LocalRunner(uneven_visits.root, workers=2)
    inputs = runner.read({"visits": Rows(VISITS, "visitor")}, 3)
    runner.run(add_up, inputs, {"visitors": COLLECT})
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("engine:"))
    assert re.fullmatch(
        r"engine: a bucket of 3\d\d rows cannot be split, because most are of one key \(mean: 154 rows\); .*", line
    )
    with pytest.raises(UserError, match=r"^engine: a worker process died twice on 3\d\d rows, most of one key"):
        runner.run(die, inputs, {"totals": COLLECT})
    runner.close()


def test_spark_gives_the_rows_of_the_local_runner(spark, visits):
    local_rows = run(LocalRunner(visits.root), visits, 1)
    for n_buckets in (1, 3):
        assert run(SparkRunner(spark, visits.root), visits, n_buckets) == local_rows


def test_one_bucket_is_read_without_a_shuffle_on_spark(spark, visits):
    runner = SparkRunner(spark, visits.root)
    tasks = Produced(produce, (1, 2, 3), VISITS.arrow_schema, "visitor")
    plans = {}
    for n_buckets in (1, 2):
        frame = runner.read({"visits": tasks}, n_buckets)["visits"].frame
        plans[n_buckets] = frame._jdf.queryExecution().toString()
    assert "Exchange" in plans[2]
    assert "Exchange" not in plans[1]


def by_days(n_buckets):
    """Calls that double the visits of one or two days each, in so many buckets of visitors."""
    return [
        Call(double_visits, {"visits": Rows(VISITS, "visitor", days=days)}, bucket, n_buckets)
        for days in (DAYS[:2], DAYS[2:3], DAYS[3:])
        for bucket in range(n_buckets)
    ]


def double_visits(tables):
    visits = pl.DataFrame(pl.from_arrow(tables["visits"]))
    return {"totals": visits.select("visitor", "day", total=pl.col("n") * 2).to_arrow()}


@pytest.mark.parametrize("n_buckets", [1, 3])
def test_calls_read_their_days_and_give_the_same_rows_on_both_engines(spark, visits, n_buckets):
    doubled = sorted(str({"visitor": f"v{v}", "day": day, "total": 2 * (v + 1)}) for v in range(40) for day in DAYS[v % 3 :])
    for runner in (LocalRunner(visits.root, workers=2), SparkRunner(spark, visits.root)):
        result = runner.run_calls(by_days(n_buckets), {"totals": Write(TOTALS)})
        runner.close()
        visits.open_for_write(TOTALS).commit(result.files["totals"], DAYS)
        assert sorted(map(str, visits.read_small_table(TOTALS))) == doubled


def test_a_call_alone_runs_in_this_process(visits, monkeypatch):
    monkeypatch.setattr(LocalRunner, "_open_pool", None)
    (call, *_) = by_days(1)
    result = LocalRunner(visits.root).run_calls([call], {"totals": COLLECT})
    assert result.collected["totals"].num_rows == 14 + 14 + 13


def test_rows_are_produced_by_tasks_in_place_of_a_table(visits):
    tasks = Produced(produce, (1, 2, 3), VISITS.arrow_schema, "visitor")
    for n_buckets in (1, 2):
        runner = LocalRunner(visits.root, workers=1)
        result = runner.run(add_up, runner.read({"visits": tasks}, n_buckets), {"totals": COLLECT})
        totals = {(row["visitor"], row["day"]): row["total"] for row in result.collected["totals"].to_pylist()}
        assert totals[("v3", DAYS[-1])] == 15
        runner.close()


def test_a_row_that_breaks_a_check_is_named_and_nothing_is_written(visits):
    runner = LocalRunner(visits.root)
    with pytest.raises(
        UserError, match=r"clean\.totals, day 2024-03-01: \d+ of \d+ rows break some \(total > 0\), the first is row"
    ):
        inputs = runner.read({"visits": Rows(VISITS, "visitor")}, 1)
        runner.run(partial(add_up, factor=-1), inputs, {"totals": Write(TOTALS)})
    assert visits.days(TOTALS.name) == []


def test_a_worker_that_dies_twice_ends_in_one_line_and_leaves_no_file(visits, monkeypatch, tmp_path):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    runner = LocalRunner(visits.root, workers=1)
    with pytest.raises(UserError, match=r"^engine: a worker process died twice"):
        runner.run(die, runner.read({"visits": Rows(VISITS, "visitor")}, 2), {"totals": COLLECT})
    runner.close()
    assert list(tmp_path.glob("shoal_*")) == []


SLEEPER = """
import sys, time
from jobs.engine.local import LocalRunner
from jobs.engine.tasks import COLLECT
from jobs.storage.rows import Rows
from tests.jobs.engine.test_runners import VISITS, sleep

if __name__ == "__main__":
    runner = LocalRunner(sys.argv[1], workers=2)
    runner.run(sleep, runner.read({"visits": Rows(VISITS, "visitor")}, 2), {"visits": COLLECT})
"""


def sleep(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    print(os.getpid(), flush=True)
    time.sleep(600)
    return tables


def test_workers_end_with_a_process_that_is_killed_and_the_next_step_removes_its_rows(visits, tmp_path, monkeypatch):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, script, visits.root], stdout=subprocess.PIPE, text=True, env=environment) as process:
        workers = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
    end = time.monotonic() + 30
    while any(map(is_running, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(is_running, workers))
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    assert len(list(tmp_path.glob("shoal_*"))) == 1
    scratch.clear_abandoned()
    assert not list(tmp_path.glob("shoal_*"))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
