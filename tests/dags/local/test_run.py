"""One day in one process: its steps, its end, and what may run at the same time."""

import os
import re
import signal
import sqlite3

import pytest

from tests.dags.local_command import STEPS, free_port, run_local, start_local
from tests.dags.waiting import is_running, wait_for


def count_open_runs(project) -> int:
    """Return the number of runs that a scheduler would continue."""
    with sqlite3.connect(project.var / "airflow" / "airflow.db") as database:
        return database.execute("select count(*) from dag_run where state in ('running', 'queued')").fetchone()[0]


def task_states(project) -> list[str]:
    """Return the states of the tasks of the first run, as the page shows them now."""
    query = "select state from task_instance where run_id = (select run_id from dag_run order by id limit 1) order by state"
    with sqlite3.connect(project.var / "airflow" / "airflow.db") as database:
        return [state for (state,) in database.execute(query)]


def test_airflows_own_commands_work_on_the_same_home(project):
    code, lines, _ = run_local(project, "airflow", "pools", "list", "--output", "plain")
    assert code == 0
    assert {"spark", "gpu"} <= {line.split()[0] for line in lines}


def test_a_day_runs_from_end_to_end_in_one_process_a_line_per_step(project):
    project.plan(train=99, notify=99)
    code, lines, err = run_local(project, "run", "--day", "2026-11-20")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"refresh 2026-11-20, log .*/refresh-2026-11-20-\w+\.log", lines[0])
    assert [tuple(line.split()[:2]) for line in lines[1:-1]] == [
        (step, "skipped" if step in ("train", "notify") else "done") for step in STEPS
    ]
    assert [entry[0] for entry in project.journal()] == STEPS
    assert {entry[entry.index("--day") + 1] for entry in project.journal()} == {"2026-11-20"}

    # The database exists for the second run. Its parameter reaches the training, and an error ends the day.
    project.plan(segment=2)
    before = os.times()
    code, lines, err = run_local(project, "run", "--day", "2026-11-21", "--retrain")
    after = os.times()
    assert (code, err) == (1, "error: segment: stand-in ends with 2\n")
    assert lines[-2].split()[:2] == ["segment", "failed"]
    assert "not run: score, publish, check_marts, report, notify; see /" in lines[-1]
    second = project.journal()[len(STEPS) :]
    assert [entry[0] for entry in second] == STEPS[:8]
    assert second[5] == ["train", "train", "--day", "2026-11-21", "--retrain"]
    assert task_states(project) == ["skipped"] * 2 + ["success"] * 11  # the second run did not clear the first
    assert count_open_runs(project) == 0
    # Airflow's own work, in seconds of a processor, which do not depend on the load. 11 measured, half of it for imports.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 25


@pytest.mark.parametrize(
    ("number", "step", "engine", "parts"),
    [
        (signal.SIGINT, "train", "auto", {"driver"}),
        (signal.SIGTERM, "clean", "auto", {"driver"}),
        (signal.SIGTERM, "clean", "spark", {"driver", "jvm", "worker", "daemon"}),
    ],
)
def test_a_stopped_run_leaves_no_process_and_no_open_run(project, other_project, number, step, engine, parts):
    project.plan(**{step: "sleep"})
    with start_local(project, "run", "--day", "2026-11-20", jvm=engine == "spark", SHOAL_ENGINE=engine) as process:
        wait_for(lambda: parts <= set(project.pids()) and all(project.pids().values()))
        pids = [pid for name, pid in project.pids().items() if name in parts]
        assert all(map(is_running, pids))
        # No other command starts on the same lake, from this project or from another, and the run goes on.
        refusals = [run_local(project, "run", "--day", "2026-11-19"), run_local(project, "up", "--port", str(free_port()))]
        refusals += [run_local(other_project, "run", "--day", "2026-11-19", SHOAL_LAKE=f"{project.var}/lake")]
        assert count_open_runs(project) == 1
        process.send_signal(number)
        out, err = process.communicate(timeout=600)
    assert refusals == [refusals[0]] * 3
    assert refusals[0][:2] == (1, [])
    assert re.fullmatch(
        rf"error: lake: {project.var}/lake is in use by make refresh of 2026-11-20 "
        rf"\(process {process.pid} on \S+, since \S+\); wait for it or stop it\n",
        refusals[0][2],
    )
    assert other_project.journal() == []
    assert (process.returncode, err) == (130, "stopped\n")
    assert "not run: " in out
    assert not any(map(is_running, pids))
    assert project.journal()[-1][0] == step
    assert count_open_runs(project) == 0


def test_two_lakes_are_refreshed_at_the_same_time_from_one_project(project):
    other_lake = {"SHOAL_LAKE": f"{project.var}/lake_of_another_shop"}
    project.plan(land="sleep")
    with start_local(project, "run", "--day", "2026-11-20") as process:
        wait_for(lambda: project.pids().get("driver"))
        project.plan()
        code, lines, err = run_local(project, "run", "--day", "2026-11-21", **other_lake)
        assert (code, err) == (0, "")
        assert [line.split()[1] for line in lines[1:-1]] == ["done"] * len(STEPS)
        assert count_open_runs(project) == 1
        refusal = run_local(project, "up", "--port", str(free_port()), **other_lake)
        os.kill(project.pids()["driver"], signal.SIGKILL)  # the step fails, and with it the run
        out, err = process.communicate(timeout=600)
    assert refusal[2].startswith("error: a refresh of another lake or `make down` runs in this project")
    assert process.returncode == 1
    assert out.splitlines()[1].split()[:2] == ["land", "failed"]
    assert "not run: clean, " in out.splitlines()[-1]
    assert err.startswith("error: land ended with exit code ")
    assert count_open_runs(project) == 0


def test_a_text_that_is_not_a_day_is_refused(project):
    code, _, err = run_local(project, "run", "--day", "2026-02-30")
    assert code == 2
    assert "'2026-02-30' is not a day; write it as YYYY-MM-DD" in err
