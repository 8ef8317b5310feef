"""A stand-in project for the DAG tests, whose jobs only write their arguments into a journal.

Its `var/plan.json` names the steps whose jobs do something else than succeed: end with an exit code, or "sleep".
"""

import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

JOBS = """
import json, os, sys, time
from pathlib import Path

var = Path(os.environ["SHOAL_HOME"]) / "var"
argv = sys.argv[1:]
step = "_".join(argv[: argv.index("--day")])
with (var / "journal").open("a") as journal:
    journal.write(json.dumps([step, *argv]) + "\\n")
action = json.loads((var / "plan.json").read_text()).get(step, 0)

def write_pid(name):
    (var / f"pid-{name}").write_text(str(os.getpid()))
    return os.getppid()

if action in ("sleep", "sleep, die with parent"):
    if action != "sleep" and os.environ.get("SHOAL_PARENT") == "watch":  # as jobs/__main__ does
        import ctypes
        ctypes.CDLL(None).prctl(1, 9)
    (var / "pid-jvm").write_text(str(write_pid("driver")))
    if os.environ.get("SPARK_HOME", "").endswith("pyspark"):  # submitted to a real Spark
        import threading
        from pyspark.sql import SparkSession
        home = str(var)

        def sleep(batches):
            Path(home, "pid-worker").write_text(str(os.getpid()))
            Path(home, "pid-daemon").write_text(str(os.getppid()))
            time.sleep(300)
            yield from batches

        session = SparkSession.builder.config("spark.ui.enabled", "false").getOrCreate()
        threading.Thread(target=session.range(1).mapInArrow(sleep, "id bigint").collect, daemon=True).start()
    while True:  # in Python, not in a call to the JVM
        time.sleep(1)
if action:
    print("a line before")
    print(f"error: {step}: stand-in ends with {action}", file=sys.stderr)
    print("a line after")
sys.exit(action)
"""

# Runs a Python file as spark-submit does in client mode, without the seconds that a JVM takes.
SUBMIT = """#!/bin/sh
while [ "${1%.py}" = "$1" ]; do shift; done
exec "$PYSPARK_DRIVER_PYTHON" "$@"
"""


class Project:
    """A stand-in project in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home, self.var = home, home / "var"
        (home / "jobs").mkdir(parents=True)
        (home / "jobs" / "__init__.py").touch()
        (home / "jobs" / "__main__.py").write_text(JOBS)
        (home / ".venv").symlink_to(ROOT / ".venv")
        submit = home / "spark" / "bin" / "spark-submit"
        submit.parent.mkdir(parents=True)
        submit.write_text(SUBMIT)
        submit.chmod(0o755)
        self.var.mkdir()
        self.plan()

    def plan(self, **actions) -> None:
        """Set what steps do instead of succeeding: end with an exit code, or "sleep"."""
        (self.var / "plan.json").write_text(json.dumps(actions))

    def journal(self) -> list[list[str]]:
        """Return the jobs that ran, in order: the step's name, then its arguments."""
        file = self.var / "journal"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def environment(self, jvm: bool = False, **variables: str) -> dict[str, str]:
        """Return the variables of a process of this project; with `jvm` it uses the real Spark."""
        # The test process has its own AIRFLOW_HOME, which must not reach this project.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "SHOAL_"))}
        env |= {"SHOAL_HOME": str(self.home), "PYTHONPATH": str(ROOT), "SHOAL_TRAIN_PYTHON": sys.executable}
        env["SHOAL_LAKE"] = str(self.var / "lake")
        # The stand-in's Spark has no server to start, so its jobs are submitted.
        env["AIRFLOW_CONN_SPARK_DEFAULT"] = json.dumps(
            {"conn_type": "spark", "host": "local[2]", "extra": {"deploy-mode": "client"}}
        )
        if not jvm:
            env |= {"SHOAL_SPARK_HOME": str(self.home / "spark"), "SHOAL_SPARK_PYTHON": sys.executable}
        return env | variables

    def pids(self) -> dict[str, int]:
        """Return the processes of a sleeping job, by name."""
        return {f.name.removeprefix("pid-"): int(f.read_text() or 0) for f in self.var.glob("pid-*")}


# Airflow reads its settings when it is first imported, so all tests in this process share one stand-in project.
SHARED = Project(Path(tempfile.mkdtemp(prefix="shoal-dags-")) / "home")
os.environ |= {k: v for k, v in SHARED.environment().items() if k.startswith("SHOAL_")}
os.environ["PYTHONPATH"] = str(ROOT)

from dags.local.airflow_home import configure  # noqa: E402

configure()
