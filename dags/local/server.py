"""Airflow with its schedule and web page on localhost: `make up` and `make down`."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from dags.local.airflow_home import DAG_ID, log_path
from dags.local.database import close_unfinished_runs, create_database, reserve_database, share_database
from dags.local.errors import UserError
from dags.local.lake_lock import check_lake, lake_root
from dags.local.login import USER, check_address, create_password, passwords_file
from dags.local.session import SESSION_FILE, read_session, session_processes, start_session, wait_for_end
from dags.processes import business_time_zone, is_alive, session_members

COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
HEALTHY_SECONDS = 180  # four processes import Airflow at the same time, which takes 40 s on two idle cores


def start_server(port: int) -> None:
    """Start scheduler, DAG processor, triggerer and API server, and return when all are healthy.

    Airflow catches up the last missed run when a schedule is switched on: it refreshes the last complete day at once,
    unless a scheduled run has done so before. Raises UserError while a command writes the lake or a run uses the database.
    """
    if session := read_session(SESSION_FILE):
        print(f"already up: {_page(session.port)}")
        return
    check_address()
    check_lake(lake_root())
    log = log_path("up")
    with reserve_database():
        if read_session(SESSION_FILE):
            raise UserError("another `make up` has just started the scheduler")
        _check_port(port)
        create_database()
        close_unfinished_runs()
        password = create_password()
        leader = _start_airflow(port, log)
    print(f"starting, log {log}", flush=True)
    if password:
        print(f"The page asks for a user: {USER}, password {password} (kept in {passwords_file()}, not shown again)", flush=True)
    try:
        _wait_until_healthy(leader, port, log)
    except BaseException:
        stop_server()
        raise
    zone = business_time_zone()
    yesterday = datetime.now(zone) - timedelta(days=1, hours=2)
    print(
        f"up: {_page(port)}\n"
        f"Scheduled: {yesterday:%Y-%m-%d} now, unless that was done, then each day at 02:00 {zone.key}."
        " Any other day: Trigger, choose the day. `make down` ends it all."
    )


def stop_server() -> None:
    """End everything that start_server() started, running steps included; raises UserError if a process does not end."""
    with share_database():  # waits while a server is starting
        session = read_session(SESSION_FILE)
        if not session:
            SESSION_FILE.unlink(missing_ok=True)
            print("nothing is up")
            return
        processes = session_processes(session.leader)
        for process in session_members(session.leader):  # Airflow's own processes; each task ends its job itself
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
        wait_for_end(processes, seconds=20)
        remaining = [process for process in {*processes, *session_processes(session.leader)} if is_alive(process)]
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if not wait_for_end(remaining, seconds=10):
            pids = sorted(process.pid for process in remaining if is_alive(process))
            raise UserError(f"processes {pids} do not end; end them by hand")
        SESSION_FILE.unlink(missing_ok=True)
    print("down")


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(f"port {port} cannot be used ({error.strerror}); choose another: PORT=8081 make up") from None


def _start_airflow(port: int, log: Path) -> subprocess.Popen:
    environment = {
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),  # of this start; a worker elsewhere needs one that is set
        **os.environ,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://localhost:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
    }
    with log.open("w") as output:
        return start_session(SESSION_FILE, port, [sys.executable, "-m", "dags.local.components"], output, environment)


def _wait_until_healthy(leader: subprocess.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + HEALTHY_SECONDS
    waiting_for = "the API server"
    while time.monotonic() < end:
        if leader.poll() is not None:
            raise UserError(f"Airflow ended with exit code {leader.returncode} while starting; see {log}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5) as answer:
                health = json.load(answer)
            unhealthy = [component for component in COMPONENTS if health[component]["status"] != "healthy"]
            if not unhealthy:
                return
            waiting_for = ", ".join(unhealthy)
        except (OSError, ValueError) as error:
            waiting_for = f"the API server ({error})"
        time.sleep(1)
    raise UserError(f"after {HEALTHY_SECONDS} s still waiting for {waiting_for}; see {log}")


def _page(port: int) -> str:
    return f"http://localhost:{port}/dags/{DAG_ID}"
