"""Airflow on one machine, without a server to look after: `python -m dags.local init|run|up|down|worker|airflow`.

    init                     create the metadata database (SQLite) and the pools, where they are missing
    run --day D [--retrain]  run the DAG for one day in this process, and print a line per step
    up [--port P]            start scheduler and web page on localhost, on the daily schedule; return when they answer
    down                     end everything that `up` started
    worker [--api URL]       serve the queue `gpu` of an Airflow that may run on another machine
    airflow ...              run Airflow's own command line with these settings: `airflow backfill create ...`

All that Airflow stores is in <home>/var/airflow. Its settings are environment variables that are set here; a variable that
is already set wins.
"""

import argparse
import os
import subprocess
import sys
from datetime import UTC, datetime

from dags.local import run, server, worker
from dags.local.airflow_home import AIRFLOW, WORKER_SETTINGS, configure
from dags.local.database import create_database
from dags.local.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns 0 for success, 1 for a failure with one line on stderr, 130 if a signal stopped it."""
    arguments = _parser().parse_args(argv)
    os.umask(int(os.environ.get("SHOAL_UMASK") or "077", 8))  # logs and the database are for this user alone
    # Airflow reads its settings when it is first imported, which none of the modules above does.
    configure(WORKER_SETTINGS if arguments.command == "worker" else {})
    try:
        return _run_command(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dags.local", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="create the metadata database and the pools, where missing")
    run_parser = commands.add_parser("run", help="run the DAG for one day in this process")
    run_parser.add_argument("--day", required=True, type=_day, help="YYYY-MM-DD")
    run_parser.add_argument("--retrain", action="store_true", help="train even though the model is not due")
    up_parser = commands.add_parser("up", help="start scheduler and web page on localhost")
    up_parser.add_argument("--port", type=int, default=int(os.environ.get("PORT") or 8080), help="default: $PORT or 8080")
    commands.add_parser("down", help="end what `up` started")
    worker_parser = commands.add_parser("worker", help="serve the queue `gpu`; it needs only HTTP to the API server")
    worker_parser.add_argument("--api", default="http://localhost:8080", help="the API server's address; default: %(default)s")
    airflow_parser = commands.add_parser("airflow", help="Airflow's own command line with these settings", add_help=False)
    airflow_parser.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _day(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).strftime("%Y-%m-%d")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day; write it as YYYY-MM-DD") from None


def _run_command(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "init":
            create_database()
        case "run":
            run.run_day(arguments.day, arguments.retrain)
        case "up":
            server.start_server(arguments.port)
        case "down":
            server.stop_server()
        case "worker":
            worker.run_worker(arguments.api)
        case "airflow":
            create_database()
            return subprocess.run([AIRFLOW, *arguments.arguments], check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
