"""The DAG tests run in the Airflow environment, against a stand-in project whose jobs write down what they were asked.

The stand-in's `var/plan.json` says per step what its job does instead of ending well: an exit code, or "sleep".
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
does = json.loads((var / "plan.json").read_text()).get(step, 0)

def note(name):
    (var / f"pid-{name}").write_text(str(os.getpid()))
    return os.getppid()

if does in ("sleep", "sleep, die with parent"):
    if does != "sleep" and os.environ.get("SHOAL_PARENT") == "watch":  # as jobs/__main__ does
        import ctypes
        ctypes.CDLL(None).prctl(1, 9)
    (var / "pid-jvm").write_text(str(note("driver")))
    if os.environ.get("SPARK_HOME", "").endswith("pyspark"):  # submitted to a real Spark
        import threading
        from pyspark.sql import SparkSession
        home = str(var)

        def work(batches):
            Path(home, "pid-worker").write_text(str(os.getpid()))
            Path(home, "pid-daemon").write_text(str(os.getppid()))
            time.sleep(300)
            yield from batches

        session = SparkSession.builder.config("spark.ui.enabled", "false").getOrCreate()
        threading.Thread(target=session.range(1).mapInArrow(work, "id bigint").collect, daemon=True).start()
    while True:  # in Python, not in a call to the JVM
        time.sleep(1)
if does:
    print("a line before")
    print(f"error: {step}: stand-in ends with {does}", file=sys.stderr)
    print("a line after")
sys.exit(does)
"""

# What spark-submit does with a Python file in client mode, without the seconds a JVM takes.
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

    def plan(self, **does) -> None:
        """Say what steps do instead of ending well: an exit code, or "sleep"."""
        (self.var / "plan.json").write_text(json.dumps(does))

    def journal(self) -> list[list[str]]:
        """What every job was asked, in order: step name, then its arguments."""
        file = self.var / "journal"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def environment(self, jvm: bool = False, **more: str) -> dict[str, str]:
        """Variables for a process on this project; with `jvm` its Spark is the real one."""
        # Settings of the test process itself (its AIRFLOW_HOME) must not reach a project of its own.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "SHOAL_"))}
        env |= {"SHOAL_HOME": str(self.home), "PYTHONPATH": str(ROOT), "SHOAL_TRAIN_PYTHON": sys.executable}
        env["SHOAL_LAKE"] = str(self.var / "lake")
        # a stand-in's jobs are submitted: its Spark has no server to start
        env["AIRFLOW_CONN_SPARK_DEFAULT"] = json.dumps(
            {"conn_type": "spark", "host": "local[2]", "extra": {"deploy-mode": "client"}}
        )
        if not jvm:
            env |= {"SHOAL_SPARK_HOME": str(self.home / "spark"), "SHOAL_SPARK_PYTHON": sys.executable}
        return env | more

    def pids(self) -> dict[str, int]:
        """The processes that a sleeping job noted, by name."""
        return {f.name.removeprefix("pid-"): int(f.read_text() or 0) for f in self.var.glob("pid-*")}


# Airflow reads its settings when it is first imported: one stand-in project serves all tests inside this process.
SHARED = Project(Path(tempfile.mkdtemp(prefix="shoal-dags-")) / "home")
os.environ |= {k: v for k, v in SHARED.environment().items() if k.startswith("SHOAL_")}
os.environ["PYTHONPATH"] = str(ROOT)

from dags import local  # noqa: E402

local._configure()
