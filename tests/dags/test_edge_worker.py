"""Training on a worker, with the real parts: API server, scheduler, edge worker, training. The other steps are stand-ins."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from dags.local.airflow_home import WORKER_SETTINGS
from tests.dags.local_command import STEPS, call_api, free_port, run_local
from tests.dags.stand_in import ROOT
from tests.dags.waiting import is_running, wait_for
from tests.dags.webhook import Webhook

SECRET = {"AIRFLOW__API_AUTH__JWT_SECRET": "what the worker and the API server both know, sixty-four bytes long"}
SHORT_TIMES = {  # in seconds, where EDGE_SETTINGS has minutes
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",  # an alert that comes during a parse waits for the next one
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
    """Another machine. It has the project, the lake and the models; of Airflow only the API server's address and secret."""

    def __init__(self, home: Path, api: str, **variables: str) -> None:
        self.home, self.api, self.workers = home, api, []
        home.mkdir()
        for name in (".venv", "conf", "jobs"):
            (home / name).symlink_to(ROOT / name)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "SHOAL_"))}
        self.environment = {**inherited, "SHOAL_HOME": str(home), "PYTHONPATH": str(ROOT)} | variables

    def start(self) -> psutil.Process:
        with (self.home / "log").open("a") as log:
            command = [sys.executable, "-m", "dags.local", "worker", "--api", self.api]
            process = psutil.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.workers.append(process)
        return process

    def kill(self) -> None:
        """Kill all workers as a power failure does: no process can send a last message."""
        for worker in self.workers:
            processes = [worker, *worker.children(recursive=True)] if is_running(worker.pid) else []
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for process in processes:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.send_signal(number)
            worker.wait(600)
            wait_for(lambda killed=processes: not any(is_running(p.pid) for p in killed))
        self.workers.clear()


class Run:
    """The scheduled run that the API server on this port shows, and its task `train`."""

    def __init__(self, port: int) -> None:
        wait_for(lambda: call_api(port, "dags/daily_refresh/dagRuns")["dag_runs"])
        self.id = call_api(port, "dags/daily_refresh/dagRuns")["dag_runs"][0]["dag_run_id"]
        self.port, self.path = port, f"dags/daily_refresh/dagRuns/{self.id}"

    def state(self) -> str:
        return call_api(self.port, self.path)["state"]

    def tries(self) -> list[dict]:
        return call_api(self.port, f"{self.path}/taskInstances/train/tries")["task_instances"]

    def log(self, number: int) -> str:
        return json.dumps(call_api(self.port, f"{self.path}/taskInstances/train/logs/{number}"))

    def clear_training(self) -> None:
        options = {"dry_run": False, "include_downstream": True, "only_failed": False, "reset_dag_runs": True}
        task = {"dag_run_id": self.id, "task_ids": ["train"]}
        call_api(self.port, "dags/daily_refresh/clearTaskInstances", options | task)


def test_without_the_shared_secret_a_worker_says_so(project):
    (project.var / "airflow" / "initialised").unlink()  # as on a machine where `up` never ran
    code, _, err = run_local(project, "worker")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: a worker signs with the API server's secret; set AIRFLOW__API_AUTH__JWT_SECRET")


def test_training_survives_its_worker_and_without_one_there_is_an_alert(project, tmp_path):
    """Start Airflow once for the day of a training: no worker listens, then a worker that is killed, then another."""
    port = free_port()
    lake, models = tmp_path / "lake", tmp_path / "models"
    day = f"{datetime.now(UTC) - timedelta(days=1, hours=2):%Y-%m-%d}"
    training = {
        "SHOAL_SOURCE": "sample", "SHOAL_LAKE": str(lake), "SHOAL_MODELS": str(models),
        "SHOAL_TRAIN__EPOCHS": "100", "SHOAL_TRAIN__PATIENCE": "100", "SHOAL_TRAIN__CHECKPOINT_SECONDS": "1",
    }  # fmt: skip
    machine = Machine(tmp_path / "machine", f"http://127.0.0.1:{port}", **SECRET, **SHORT_TIMES, **training)
    python = ROOT / ".venv" / "train" / "bin" / "python"
    subprocess.run([python, "-c", CUSTOMERS, lake, day], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    executors = {"AIRFLOW__CORE__EXECUTOR": WORKER_SETTINGS["AIRFLOW__CORE__EXECUTOR"]}
    with Webhook() as webhook:
        alerts = {"AIRFLOW__SHOAL__ALERT_URL": webhook.url, "AIRFLOW__SHOAL__PUBLISHED_BY": ""}
        try:
            code, _, err = run_local(project, "up", "--port", str(port), **SECRET, **SHORT_TIMES, **executors, **alerts)
            assert (code, err) == (0, "")
            run = Run(port)
            check_training_without_a_worker(run, webhook, day)
            check_training_that_survives_its_worker(run, machine, models)
            assert json.loads((models / "autoencoder" / "champion.json").read_text())["version"].startswith(day)
            assert [entry[0] for entry in project.journal()] == [step for step in STEPS if step != "train"]
            assert len(webhook.lines) == 1
            assert not [*machine.home.glob("var/**/*.db")]
        finally:
            machine.kill()
            ended = run_local(project, "down")
    assert ended == (0, ["down"], "")


def check_training_without_a_worker(run: Run, webhook: Webhook, day: str) -> None:
    wait_for(lambda: [t["state"] for t in run.tries()] == ["queued"])
    wait_for(lambda: webhook.lines)
    assert len(webhook.lines) == 1
    assert webhook.lines[0].startswith(f"shoal: train of {day} failed (try 1): no worker of queue gpu took it in time")
    wait_for(lambda: run.state() == "failed")


def check_training_that_survives_its_worker(run: Run, machine: Machine, models: Path) -> None:
    first = machine.start()
    wait_for((machine.home / "var" / "airflow" / "airflow-edge-worker.pid").exists)  # it listens
    run.clear_training()
    wait_for(lambda: [*models.glob("autoencoder/.checkpoint-*")])
    processes = [first, *first.children(recursive=True)]
    assert [p for p in processes if p.cmdline()[:1] == [str(machine.home / ".venv/train/bin/python")]]
    machine.kill()
    assert [t["state"] for t in run.tries()] == ["failed", "running"]

    second = machine.start()
    wait_for(lambda: run.tries()[1]["state"] != "running")
    wait_for(lambda: run.state() != "running")
    tries = run.tries()
    assert run.state() == "success"
    assert [t["state"] for t in tries] == ["failed", "failed", "success"]
    assert {(t["queue"], t["executor"]) for t in tries} == {("gpu", "EdgeExecutor")}
    workers = zip(tries[1:], (first, second), strict=True)
    assert [(t["hostname"] or "").endswith(f"-{worker.pid}") for t, worker in workers] == [True] * 2
    assert "resumes from epoch" not in run.log(2)
    assert run.log(3).count("resumes from epoch") == 1
