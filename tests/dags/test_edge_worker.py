"""Training on a worker, with the real parts: API server, scheduler, edge worker, training. The other steps are stand-ins."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from dags.local import WORKER
from tests.dags.stand_in import ROOT
from tests.dags.test_local import STEPS, api, free_port, local
from tests.dags.test_steps import alive, wait_for

SECRET = {"AIRFLOW__API_AUTH__JWT_SECRET": "what the worker and the API server both know, sixty-four bytes long"}
SECONDS = {  # where EDGE has minutes
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",  # an alert that meets a parse waits for the next one
    "AIRFLOW__EDGE__HEARTBEAT_INTERVAL": "3",
    "AIRFLOW__EDGE__JOB_POLL_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "1",
}

CUSTOMERS = """
import sys
from datetime import date
from tests.jobs.autoencoder.conftest import Shop
shop = Shop()
shop.day = date.fromisoformat(sys.argv[2])
shop.write(sys.argv[1], shop.values(4000))
"""


class Machine:
    """Another machine: the project, the lake, the models, and nothing of Airflow but the API server's address and secret."""

    def __init__(self, home: Path, api: str, **variables: str) -> None:
        self.home, self.api, self.workers = home, api, []
        home.mkdir()
        for name in (".venv", "conf", "jobs"):
            (home / name).symlink_to(ROOT / name)
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "SHOAL_"))}
        self.environment = {**mine, "SHOAL_HOME": str(home), "PYTHONPATH": str(ROOT)} | variables

    def start(self) -> psutil.Process:
        with (self.home / "log").open("a") as log:
            command = [sys.executable, "-m", "dags.local", "worker", "--api", self.api]
            process = psutil.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.workers.append(process)
        return process

    def kill(self) -> None:
        """As when the power goes: no process gets to say anything."""
        for worker in self.workers:
            processes = [worker, *worker.children(recursive=True)] if alive(worker.pid) else []
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for process in processes:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.send_signal(number)
            worker.wait(600)
            wait_for(lambda gone=processes: not any(alive(p.pid) for p in gone))
        self.workers.clear()


@pytest.fixture
def alerts():
    """The lines that a webhook got, and its address."""
    lines = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            lines.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield lines, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_without_the_shared_secret_a_worker_says_so(project):
    (project.var / "airflow" / "initialised").unlink()  # as on a machine where `up` never ran
    code, _, err = local(project, "worker")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: a worker signs with the API server's secret; set AIRFLOW__API_AUTH__JWT_SECRET")


def test_training_survives_its_worker_and_without_one_there_is_an_alert(project, tmp_path, alerts):
    """One start of Airflow for the day of a training: nobody listens; then a worker that is killed; then another."""
    lines, webhook = alerts
    port = free_port()
    lake, models = tmp_path / "lake", tmp_path / "models"
    day = f"{datetime.now(UTC) - timedelta(days=1, hours=2):%Y-%m-%d}"
    training = {
        "SHOAL_SOURCE": "sample", "SHOAL_LAKE": str(lake), "SHOAL_MODELS": str(models),
        "SHOAL_TRAIN__EPOCHS": "100", "SHOAL_TRAIN__PATIENCE": "100", "SHOAL_TRAIN__CHECKPOINT_SECONDS": "1",
    }  # fmt: skip
    machine = Machine(tmp_path / "machine", f"http://127.0.0.1:{port}", **SECRET, **SECONDS, **training)
    airflow = {
        "AIRFLOW__CORE__EXECUTOR": WORKER["AIRFLOW__CORE__EXECUTOR"],
        "AIRFLOW__SHOAL__ALERT_URL": webhook,
        "AIRFLOW__SHOAL__PUBLISHED_BY": "",
    }
    python = ROOT / ".venv" / "train" / "bin" / "python"
    subprocess.run([python, "-c", CUSTOMERS, lake, day], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)

    def tries() -> list[dict]:
        return api(port, f"{run}/taskInstances/train/tries")["task_instances"]

    def log(number: int) -> str:
        return json.dumps(api(port, f"{run}/taskInstances/train/logs/{number}"))

    def state() -> str:
        return api(port, run)["state"]

    try:
        code, _, err = local(project, "up", "--port", str(port), **SECRET, **SECONDS, **airflow)
        assert (code, err) == (0, "")
        wait_for(lambda: api(port, "dags/daily_refresh/dagRuns")["dag_runs"])
        run = f"dags/daily_refresh/dagRuns/{api(port, 'dags/daily_refresh/dagRuns')['dag_runs'][0]['dag_run_id']}"
        wait_for(lambda: [t["state"] for t in tries()] == ["queued"])
        wait_for(lambda: lines)
        assert len(lines) == 1
        assert lines[0].startswith(f"shoal: train of {day} failed (try 1): no worker of queue gpu took it in time")
        wait_for(lambda: state() == "failed")

        first = machine.start()
        wait_for((machine.home / "var" / "airflow" / "airflow-edge-worker.pid").exists)  # it listens
        again = {"dry_run": False, "dag_run_id": run.split("/")[-1], "task_ids": ["train"], "include_downstream": True}
        api(port, "dags/daily_refresh/clearTaskInstances", again | {"only_failed": False, "reset_dag_runs": True})
        wait_for(lambda: [*models.glob("autoencoder/.checkpoint-*")])
        parts = [first, *first.children(recursive=True)]
        assert [p for p in parts if p.cmdline()[:1] == [str(machine.home / ".venv/train/bin/python")]]
        machine.kill()
        assert [t["state"] for t in tries()] == ["failed", "running"]

        second = machine.start()
        wait_for(lambda: tries()[1]["state"] != "running")
        wait_for(lambda: state() != "running")
        done = tries()
        assert state() == "success"
        assert [t["state"] for t in done] == ["failed", "failed", "success"]
        assert {(t["queue"], t["executor"]) for t in done} == {("gpu", "EdgeExecutor")}
        assert [(t["hostname"] or "").endswith(f"-{w.pid}") for t, w in zip(done[1:], (first, second), strict=True)] == [True] * 2
        assert "goes on from epoch" not in log(2)
        assert log(3).count("goes on from epoch") == 1
        assert json.loads((models / "autoencoder" / "champion.json").read_text())["version"].startswith(day)
        assert [entry[0] for entry in project.journal()] == [step for step in STEPS if step != "train"]
        assert len(lines) == 1
        assert not [*machine.home.glob("var/**/*.db")]
    finally:
        machine.kill()
        ended = local(project, "down")
    assert ended == (0, ["down"], "")
