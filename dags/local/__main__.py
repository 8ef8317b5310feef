"""Airflow on one machine, without a server to look after: `python -m dags.local init|run|up|down|worker|airflow`.

    init                     the metadata database (SQLite) and the pools, where they are missing
    run --day D [--retrain]  the DAG for one day inside this process, a line per step
    up [--port P]            scheduler and web page on localhost, on the daily schedule; comes back when they answer
    down                     ends all that `up` started
    worker [--api URL]       serves the queue `gpu` of an Airflow that may run on another machine
    airflow ...              Airflow's own command line on this home: `airflow backfill create ...`

Everything Airflow keeps lies in <home>/var/airflow. All its settings are variables set here; one set outside wins.
"""

import argparse
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from dags.lake_lock import LakeBusy, check_lake, hold_lake, lake_root
from dags.session import is_alive, processes, read_session, start_session, wait_for_end

DAGS = Path(__file__).resolve().parent
HOME = Path(os.environ.get("SHOAL_HOME") or DAGS.parent)
AIRFLOW_HOME = HOME / "var" / "airflow"
SESSION_FILE = AIRFLOW_HOME / "session.json"
DAG_ID = "daily_refresh"
POOLS = {"spark": "One Spark application at a time", "gpu": "One training at a time"}
PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
HEALTHY_SECONDS = 180  # four processes import Airflow at once; 40 s on two idle cores

# Where training is left to a worker. Seconds; docs/adr/gpu-worker.md has what they led to.
EDGE = {
    "AIRFLOW__EDGE__API_ENABLED": "True",
    "AIRFLOW__EDGE__HEARTBEAT_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "0",  # fail, with the alert, the first time that nobody takes a training
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",  # a training whose worker is silent for so long is tried again
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "600",  # a training that nobody takes for so long fails
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "30",
}
# The worker itself. It has no database, and logs of its own: it sends what is added to them to the API server, which must
# not add that to the same file.
WORKER = {
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,airflow.providers.edge3.executors.EdgeExecutor",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(AIRFLOW_HOME / "worker"),
}


class Failed(Exception):
    """Ends the command with this one line and exit code 1."""


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 done, 1 failed with one line on stderr, 130 stopped by a signal."""
    parser = argparse.ArgumentParser(prog="python -m dags.local", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="create the metadata database and the pools, where missing")
    one = commands.add_parser("run", help="run the DAG for one day in this process")
    one.add_argument("--day", required=True, type=_day, help="YYYY-MM-DD")
    one.add_argument("--retrain", action="store_true", help="train even though the model is not due")
    server = commands.add_parser("up", help="start scheduler and web page on localhost")
    server.add_argument("--port", type=int, default=int(os.environ.get("PORT") or 8080), help="default: $PORT or 8080")
    commands.add_parser("down", help="end what `up` started")
    gpu = commands.add_parser("worker", help="serve the queue `gpu`, by HTTP to the API server alone")
    gpu.add_argument("--api", default="http://localhost:8080", help="the API server's address; default: %(default)s")
    own = commands.add_parser("airflow", help="Airflow's own command line with these settings", add_help=False)
    own.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args(argv)
    own_spark = "AIRFLOW_CONN_SPARK_DEFAULT" not in os.environ
    _configure(WORKER if given.command == "worker" else {})
    try:
        if given.command == "run":
            return run(given.day, given.retrain, own_spark)
        if given.command == "airflow":
            init()
            return subprocess.run([Path(sys.executable).parent / "airflow", *given.arguments], check=False).returncode
        {"init": init, "up": lambda: up(given.port), "down": down, "worker": lambda: worker(given.api)}[given.command]()
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def init() -> None:
    """Create or upgrade the metadata database and the pools; nothing where this Airflow version did it before."""
    done = AIRFLOW_HOME / "initialised"
    with (AIRFLOW_HOME / "init.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two at the same time the second waits
        if done.exists() and done.read_text() == version("apache-airflow-core"):
            return
        from airflow.models.pool import Pool
        from airflow.utils.db import initdb

        with _quiet(_log("init")):
            initdb()
            for name, about in POOLS.items():
                Pool.create_or_update_pool(name, slots=1, description=about, include_deferred=False)
        done.write_text(version("apache-airflow-core"))


def run(day: str, retrain: bool = False, own_spark: bool = True) -> int:
    """Run the DAG for one day in this process, each step a process of its own; 0 if the day was refreshed, else 1.

    With `own_spark` the steps share one Spark Connect server, started for this run: a warm JVM halves the day.

    No retries: who runs it by hand sees the error and decides. Stopped by Ctrl-C or SIGTERM it leaves nothing running.
    Days of several lakes may run at the same time; one lake has one run at a time.
    """
    with _share_database():
        if read_session(SESSION_FILE):
            raise Failed("the scheduler is up and would take part in this run; trigger the day there, or `make down` first")
        lake = _lake()
        try:
            with hold_lake(lake, HOME, day):
                return _run(day, retrain, own_spark, lake)
        except LakeBusy as busy:
            raise Failed(str(busy)) from None


def _run(day: str, retrain: bool, own_spark: bool, lake: str) -> int:
    log = _log(f"refresh-{day}")
    print(f"refresh {day}, log {log}", flush=True)
    signal.signal(signal.SIGTERM, _stop)
    # Spark starts while Airflow is imported; the first step waits for it
    with _quiet(log) as terminal, _warm_spark(log) if own_spark else contextlib.nullcontext():
        init()
        progress = _Progress(terminal)
        dag = _dag()
        dag.deadline = None  # whoever runs it by hand waits for it; and `test` fails on one
        for task in dag.tasks:
            progress.watch(task)
            task.retries = 0
        try:
            # `test` clears the runs that have its logical date, and with None those of every date
            now = datetime.now(UTC)
            state = dag.test(logical_date=now, run_conf={"day": day, "retrain": retrain, "lake": lake}).state
        finally:
            _close_unfinished_runs(lake)
    print(progress.summary(dag, log), flush=True)
    if progress.stopped:
        raise KeyboardInterrupt
    if state != "success":
        raise Failed(progress.error or f"the run ended as {state}; see {log}")
    return 0


@contextlib.contextmanager
def _warm_spark(log: Path):
    """A Spark Connect server for the time of a run, and the connection `spark_default` on it."""
    from dags.steps import end_session, spark_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    output = log.with_suffix(".spark.log")
    with output.open("w") as file:
        server = spark_server(port, file)
    try:
        os.environ["AIRFLOW_CONN_SPARK_DEFAULT"] = json.dumps({"conn_type": "spark_connect", "host": "127.0.0.1", "port": port})
        yield
        if server.poll() is not None:
            raise Failed(f"Spark ended with exit code {server.returncode}; see {output}")
    finally:
        end_session(server.pid)
        server.wait()


def up(port: int) -> None:
    """Start scheduler, DAG processor, triggerer and API server, and return when all answer.

    Airflow makes up the last missed tick when a schedule is switched on: the last complete day is refreshed at once,
    unless a scheduled run did it before.
    """
    if session := read_session(SESSION_FILE):
        print(f"already up: {_page(session.port)}")
        return
    try:
        check_lake(_lake(), HOME)
    except LakeBusy as busy:
        raise Failed(str(busy)) from None
    with _own_database():
        if read_session(SESSION_FILE):
            raise Failed("another `make up` has just started the scheduler")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise Failed(f"port {port} cannot be used ({error.strerror}); choose another: PORT=8081 make up") from None
        init()
        _close_unfinished_runs()
        log = _log("up")
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # standalone calls `airflow` by name
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": f"http://localhost:{port}",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        }
        with log.open("w") as output:
            command = [str(Path(sys.executable).parent / "airflow"), "standalone"]
            leader = start_session(SESSION_FILE, port, command, output, environment)
    print(f"starting, log {log}", flush=True)
    try:
        _wait_until_healthy(leader, port, log)
    except BaseException:
        down()
        raise
    yesterday = datetime.now(UTC) - timedelta(days=1, hours=2)
    print(
        f"up: {_page(port)}\n"
        f"Scheduled: {yesterday:%Y-%m-%d} now, unless that was done, then each day at 02:00 UTC."
        " Any other day: Trigger, choose the day. `make down` ends it all."
    )


def down() -> None:
    """End all that `up` started, running steps included, and check that nothing of it is left."""
    import psutil

    with _share_database():  # waits for an `up` that is just starting
        session = read_session(SESSION_FILE)
        if not session:
            SESSION_FILE.unlink(missing_ok=True)
            print("nothing is up")
            return
        members = processes(session.leader)
        for process in members:
            # Airflow's own processes only: told to end, a task ends its job itself.
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(process.pid) == session.leader:
                    process.send_signal(signal.SIGTERM)
        wait_for_end(members, seconds=20)
        left = [process for process in {*members, *processes(session.leader)} if is_alive(process)]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if not wait_for_end(left, seconds=10):
            raise Failed(f"processes {sorted(p.pid for p in left if is_alive(p))} do not end; end them by hand")
        SESSION_FILE.unlink(missing_ok=True)
    print("down")


def worker(api: str) -> None:
    """Become a worker that takes one training at a time from the queue `gpu`.

    Ctrl-C: it first ends the training that it has. SIGTERM: the training is told to end, and the next worker goes on with it.
    """
    if "AIRFLOW__API_AUTH__JWT_SECRET" not in os.environ and not (AIRFLOW_HOME / "initialised").exists():
        raise Failed("a worker signs with the API server's secret; set AIRFLOW__API_AUTH__JWT_SECRET to one long text on both")
    os.environ.setdefault("AIRFLOW__EDGE__API_URL", f"{api.rstrip('/')}/edge_worker/v1/rpcapi")
    # A new name each time: the API server refuses that of a worker which was killed until it counts as gone.
    name = f"{socket.gethostname()[:50]}-{os.getpid()}"
    command = ["airflow", "edge", "worker", "--queues", "gpu", "--concurrency", "1", "--edge-hostname", name]
    os.execv(Path(sys.executable).parent / "airflow", command)  # noqa: S606


class _Progress:
    """A line per step on the terminal: its name when it starts; how it ended and after how many seconds when it has."""

    def __init__(self, terminal) -> None:
        self.terminal, self.error, self.stopped = terminal, None, False
        self.begun = self.first = time.monotonic()
        self.open, self.ended = None, []

    def watch(self, task) -> None:
        task.on_execute_callback = [self._start]
        task.on_success_callback = [lambda context: self._end(context, "done")]
        task.on_skipped_callback = [lambda context: self._end(context, "skipped")]
        task.on_failure_callback = [*(task.on_failure_callback or []), lambda context: self._end(context, "failed")]

    def _start(self, context) -> None:
        # Airflow has just set a handler of its own, which would end the step and go on with the run.
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        self.open, self.begun = context["ti"].task_id, time.monotonic()
        self._say(f"{self.open:<16}", end="")

    def _stop(self, number, frame) -> None:
        self.stopped = True
        _stop(number, frame)

    def _end(self, context, how: str) -> None:
        step = context["ti"].task_id
        if self.open != step:  # it failed before its process began
            self._say(f"{step:<16}", end="")
        self.open = None
        self.ended.append(step)
        self._say(f"{how:<8}{time.monotonic() - self.begun:8.1f} s")
        if how == "failed":
            self.error = str(context.get("exception") or "").removeprefix("error: ").split("\n")[0]

    def summary(self, dag, log: Path) -> str:
        """The last line: the time of all steps and what was not run."""
        rest = [task.task_id for task in dag.topological_sort() if task.task_id not in self.ended]
        not_run = f"; not run: {', '.join(rest)}; see {log}" if rest else ""
        return f"{'all':<16}{'':<8}{time.monotonic() - self.first:8.1f} s{not_run}"

    def _say(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=self.terminal, flush=True)


def _configure(more: dict[str, str] | None = None) -> None:
    """Airflow's settings for this machine, before Airflow is imported; what the environment sets already stays."""
    (AIRFLOW_HOME / "logs").mkdir(parents=True, exist_ok=True)
    settings = {
        "AIRFLOW_HOME": str(AIRFLOW_HOME),
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]", "extra": {"deploy-mode": "client"}}),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__INSTANCE_NAME": "Shoal",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(DAGS / "plugins"),
        "AIRFLOW__CORE__PARALLELISM": "4",  # LocalExecutor starts as many workers
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",  # no log-in: only this machine can connect
        # Wait for SQLite's lock rather than fail: scheduler, API server and processor all write to it.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME / 'airflow.db'}?timeout=60",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(AIRFLOW_HOME / "logs"),
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # the default 5 s is short for a server that is just up
    }
    settings |= more or {}
    if "EdgeExecutor" in os.environ.get("AIRFLOW__CORE__EXECUTOR", settings["AIRFLOW__CORE__EXECUTOR"]):
        settings |= EDGE
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(DAGS.parent), os.environ.get("PYTHONPATH")]))  # for `dags.steps`


def _day(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).strftime("%Y-%m-%d")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day; write it as YYYY-MM-DD") from None


def _dag():
    from dags.daily_refresh import refresh

    return refresh


def _stop(number, frame):
    raise KeyboardInterrupt


def _lake() -> str:
    try:
        return lake_root(HOME)
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise Failed(f"the settings name no lake ({error}); set SHOAL_LAKE") from None


@contextlib.contextmanager
def _share_database():
    """Keep `up` from starting a scheduler, which would take part in this process's run; waits for one that is starting."""
    with (AIRFLOW_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _own_database():
    """Keep runs from starting until the session file says that a scheduler is up. Raises Failed while one is going on."""
    with (AIRFLOW_HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(
                "a refresh of another lake or `make down` runs in this project, and shares the database; wait for it or stop it"
            ) from None
        yield


def _log(name: str) -> Path:
    return AIRFLOW_HOME / "logs" / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}_{os.getpid()}.log"


@contextlib.contextmanager
def _quiet(log: Path):
    """Send what this process and its children print to `log`; gives the terminal for the few lines a person reads."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("a") as file, os.fdopen(saved[0], "w", closefd=False) as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
    for copy in saved:
        os.close(copy)


def _close_unfinished_runs(lake: str | None = None) -> None:
    """Mark what a stopped `run` left open as failed, of one lake or of all: a scheduler would go on with it."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType

    with create_session() as session:
        open_runs = session.query(DagRun).filter(
            DagRun.dag_id == DAG_ID,
            DagRun.triggered_by == DagRunTriggeredByType.TEST,
            DagRun.state.in_([DagRunState.RUNNING, DagRunState.QUEUED]),
        )
        for dag_run in open_runs:
            if lake and (dag_run.conf or {}).get("lake") != lake:
                continue  # it may be going on in another process
            dag_run.state = DagRunState.FAILED
            for ti in dag_run.get_task_instances(session=session):
                if ti.state not in (TaskInstanceState.SUCCESS, TaskInstanceState.SKIPPED):
                    ti.state = TaskInstanceState.FAILED


def _wait_until_healthy(leader: subprocess.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + HEALTHY_SECONDS
    waiting_for = "the API server"
    while time.monotonic() < end:
        if leader.poll() is not None:
            raise Failed(f"Airflow ended with exit code {leader.returncode} while starting; see {log}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5) as answer:
                health = json.load(answer)
            ill = [part for part in PARTS if health[part]["status"] != "healthy"]
            if not ill:
                return
            waiting_for = ", ".join(ill)
        except (OSError, ValueError) as error:
            waiting_for = f"the API server ({error})"
        time.sleep(1)
    raise Failed(f"after {HEALTHY_SECONDS} s still waiting for {waiting_for}; see {log}")


def _page(port: int) -> str:
    return f"http://localhost:{port}/dags/{DAG_ID}"


if __name__ == "__main__":
    sys.exit(main())
