"""A real scheduler with its web page: the days that it refreshes, and that `down` leaves nothing running."""

import json
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from tests.dags.local_command import STEPS, authorization, call_api, free_port, run_local
from tests.dags.waiting import is_running, wait_for
from tests.dags.webhook import Webhook

RUNS = "dags/daily_refresh/dagRuns"


def landed_days(project) -> list[str]:
    """Return the days that `land` ran for, in order."""
    return [entry[3] for entry in project.journal() if entry[0] == "land"]


def unpublished_alerts(webhook) -> list[str]:
    """Return the alerts about days that were not published in time."""
    return [line for line in webhook.lines if "is not published" in line]


def trigger(port: int, **body) -> str:
    """Trigger a run and return its id."""
    return call_api(port, RUNS, {"logical_date": None, **body})["dag_run_id"]


def report_page(port: int, run: str) -> str:
    """Return the address that the tab Report of a run's page shows."""
    views = [view for plugin in call_api(port, "plugins")["plugins"] for view in plugin["external_views"]]
    (view,) = (view for view in views if view["name"] == "Report" and view["destination"] == "dag_run")
    path = view["href"].format(DAG_ID="daily_refresh", RUN_ID=urllib.parse.quote(run, safe=""))  # as the page does it
    return f"http://127.0.0.1:{port}{path}"


def start_sleeping_run(project, port: int, day: str) -> tuple[str, int]:
    """Trigger a run whose first step sleeps; returns the run's id and the step's process id."""
    (project.var / "pid-driver").unlink(missing_ok=True)
    project.plan(land="sleep")
    run = trigger(port, conf={"day": day})
    wait_for(lambda: project.pids().get("driver"))
    return run, project.pids()["driver"]


def test_up_refuses_a_port_in_use_and_down_without_up_says_so(project):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = str(server.getsockname()[1])
        code, _, err = run_local(project, "up", "--port", port)
    refusal = f"error: port {port} cannot be used (Address already in use); choose another: PORT=8081 make up\n"
    assert (code, err) == (1, refusal)
    assert run_local(project, "down") == (0, ["nothing is up"], "")


def test_up_never_makes_everyone_an_administrator_on_an_address_that_others_reach(project):
    variables = {"AIRFLOW__API__HOST": "0.0.0.0", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}  # noqa: S104
    code, lines, err = run_local(project, "up", **variables)
    assert (code, lines) == (1, [])
    assert err.startswith("error: AIRFLOW__API__HOST is 0.0.0.0 and AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS makes everyone")


def test_a_real_scheduler_runs_the_right_day_and_down_leaves_nothing(project):
    """Start Airflow once for all that only a scheduler shows: schedule, form, backfill, a run marked failed, the end."""
    port = free_port()
    project.plan(land=2)  # where only the day matters, the run may end after its first step
    with Webhook() as webhook:
        # No run can end before this deadline.
        variables = {"AIRFLOW__SHOAL__ALERT_URL": webhook.url, "AIRFLOW__SHOAL__PUBLISHED_BY": "02:00"}
        code, lines, err = run_local(project, "up", "--port", str(port), **variables)
        try:
            assert (code, err) == (0, "")
            assert lines[1].startswith("The page asks for a user: admin, password ")
            assert lines[2] == f"up: http://localhost:{port}/dags/daily_refresh"
            assert run_local(project, "run", "--day", "2026-11-20")[2].startswith("error: the scheduler is up")
            assert run_local(project, "up")[1] == [f"already up: http://localhost:{port}/dags/daily_refresh"]
            check_doors(project, port)
            check_scheduled_run(project, port, webhook)
            check_days_of_runs_by_hand_and_of_a_backfill(project, port)
            check_whole_run_and_its_report(project, port)
            check_run_that_is_marked_failed(project, port)
            _, driver = start_sleeping_run(project, port, "2021-02-02")
            leader = json.loads((project.var / "airflow" / "session.json").read_text())["leader"]
            # Runs by hand and the backfill refresh other days.
            assert len(unpublished_alerts(webhook)) == 1
        finally:
            ended = run_local(project, "down")
    assert ended == (0, ["down"], "")
    assert not is_running(driver)
    assert not [p.pid for p in psutil.process_iter() if os.getsid(p.pid) == leader and is_running(p.pid)]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port))


def check_doors(project, port: int) -> None:
    """Only this machine reaches Airflow, only with the password, and only under its own name."""
    leader = json.loads((project.var / "airflow" / "session.json").read_text())["leader"]
    members = [process for process in psutil.process_iter() if os.getsid(process.pid) == leader]
    sockets = [entry for process in members for entry in process.net_connections() if entry.status == psutil.CONN_LISTEN]
    assert sockets
    assert {entry.laddr.ip for entry in sockets} == {"127.0.0.1"}
    assert (project.var / "airflow" / "passwords.json").stat().st_mode & 0o777 == 0o600
    for path, headers, code in (
        (f"api/v2/{RUNS}", {}, 401),
        ("auth/token", {"Host": "evil.example"}, 400),
        (f"api/v2/{RUNS}", {"Host": "evil.example"} | authorization(port), 400),
    ):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/{path}", headers=headers), timeout=600)
        assert refusal.value.code == code, (path, headers)


def check_scheduled_run(project, port: int, webhook) -> None:
    wait_for(lambda: landed_days(project))
    run = call_api(port, RUNS)["dag_runs"][0]
    assert run["run_type"] == "scheduled"
    wait_for(lambda: call_api(port, f"{RUNS}/{run['dag_run_id']}")["state"] == "failed")
    assert len(landed_days(project)) == 1  # exit code 2 is not retried
    end = datetime.fromisoformat(run["data_interval_end"])
    assert end == datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0) or datetime.now(UTC).hour < 2
    assert landed_days(project) == [f"{end - timedelta(days=1):%Y-%m-%d}"]
    wait_for(lambda: unpublished_alerts(webhook))
    alert = unpublished_alerts(webhook)[0]
    assert alert.startswith(f"shoal: {landed_days(project)[0]} is not published by 02:00 UTC (publish: ")
    assert alert.endswith(f") -- http://localhost:{port}/dags/daily_refresh/runs/{run['dag_run_id']}")


def check_days_of_runs_by_hand_and_of_a_backfill(project, port: int) -> None:
    trigger(port, logical_date="2011-12-10T12:00:00Z")
    wait_for(lambda: landed_days(project)[1:] == ["2011-12-09"])

    backfill = {"dag_id": "daily_refresh", "from_date": "2026-11-01T00:00:00Z", "to_date": "2026-11-03T00:00:00Z"}
    call_api(port, "backfills", backfill | {"max_active_runs": 1, "run_backwards": False, "dag_run_conf": {}})
    wait_for(lambda: landed_days(project)[2:] == ["2026-11-01", "2026-11-02"])


def check_whole_run_and_its_report(project, port: int) -> None:
    project.plan(train=99)
    run = trigger(port, conf={"day": "2021-01-31"})
    wait_for(lambda: call_api(port, f"{RUNS}/{run}")["state"] == "success")
    assert [entry[0] for entry in project.journal()[-len(STEPS) :]] == STEPS
    assert {entry[entry.index("--day") + 1] for entry in project.journal()[-len(STEPS) :]} == {"2021-01-31"}

    page = urllib.request.Request(report_page(port, run), headers=authorization(port))  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(page, timeout=600)  # noqa: S310
    file = project.var / "reports" / "2021-01-31" / "index.html"
    file.parent.mkdir(parents=True)
    file.write_text("the report of that day")
    with urllib.request.urlopen(page, timeout=600) as answer:  # noqa: S310
        assert answer.read() == b"the report of that day"


def check_run_that_is_marked_failed(project, port: int) -> None:
    run, driver = start_sleeping_run(project, port, "2021-02-01")
    assert is_running(driver)
    call_api(port, f"{RUNS}/{run}", {"state": "failed"}, "PATCH")
    wait_for(lambda: not is_running(driver))
