"""The command line: `shoal <step> --day D` for every step of jobs/flow.py, and a few that help a person.

Exit codes: 0 done, 2 something the user can mend (one line, `error: ...`), 99 nothing to do today, 1 anything else.
"""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    # Submitted as a file: the package's parent belongs on the path, its inside does not.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from jobs import bi, flow, registry, steps
from jobs.errors import NotDue, UserError


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    _die_with_parent()
    if os.environ.get("SHOAL_REMOTE"):
        # A thin client ends in order, so that its server stops working for it.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        arguments.run(arguments)
    except UserError as error:
        print(f"error: {error}", flush=True)
        return 2
    except NotDue as reason:
        print(f"not due: {reason}", flush=True)
        return flow.NOT_DUE_EXIT_CODE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="shoal", description="Daily customer segments from clickstream and order tables.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    by_command: dict[str, flow.Step] = {step.command[0]: step for step in flow.STEPS}
    for command, step in by_command.items():
        if command == "check":
            sub = commands.add_parser("check", help="Great Expectations on one layer.")
            sub.add_argument("layer", choices=flow.CHECKED_LAYERS)
        else:
            sub = commands.add_parser(command, help=step.about)
        _add_days(sub)
        sub.set_defaults(run=steps.run, command=command)
        if command == "train":
            sub.add_argument("--retrain", action="store_true", help="train even while the champion is fresh")
            sub.add_argument("--search", action="store_true", help="do not train; try sizes and settings, and keep the best")
            budget = sub.add_mutually_exclusive_group()
            budget.add_argument("--trials", type=_above_zero(int), help=f"how many in all; default: {steps.TRIALS}")
            budget.add_argument("--minutes", type=_above_zero(float), help="instead, how long they may take in all")
            sub.add_argument("--sampler", choices=("tpe", "random", "grid"), help="who chooses the next; default: tpe")
        if command == "publish":
            sub.add_argument("--run-id", default="by_hand", help="name of the run in marts.refreshes")
            sub.add_argument("--started-at", type=_moment, default=None, help="when the run began, ISO 8601, UTC")
    sub = commands.add_parser("refresh", help="Every step of the day, in one process (training in its own).")
    _add_days(sub)
    sub.add_argument("--retrain", action="store_true", help="train even while the champion is fresh")
    every = [step.name for step in flow.STEPS]
    sub.add_argument("--steps", type=_steps, default=every, help=f"only these, in their order: {','.join(every)}")
    sub.set_defaults(run=steps.refresh, run_id="by_hand", started_at=None)
    sub = commands.add_parser("segments", help="The published segments as a table.")
    sub.set_defaults(run=steps.print_segments)
    sub = commands.add_parser("changes", help="Who was added to, changed or left a segment since an earlier day.")
    sub.add_argument("--since", type=_day, required=True, help="the day whose segments are held against, YYYY-MM-DD")
    sub.add_argument("--day", type=_day, help="the day with which; default: the latest published one")
    sub.add_argument("--out", type=Path, help="a row for each customer as this .csv or .parquet file")
    sub.set_defaults(run=steps.print_changes)
    sub = commands.add_parser("reconcile", help="What became of every row: rows in, rows out, refused and repeated by rule.")
    _add_days(sub)
    sub.set_defaults(run=steps.print_reconciliation)
    sub = commands.add_parser("tables", help="Every table: rows, version, newest day.")
    sub.set_defaults(run=steps.print_tables)
    sub = commands.add_parser("bi", help="A Thrift server over the marts, for JDBC and ODBC; until Ctrl-C.")
    sub.add_argument("--host", default="127.0.0.1", help="who may reach it, without a password; default: this machine only")
    sub.add_argument("--port", type=int, default=10000, help="default: %(default)s")
    sub.set_defaults(run=bi.serve)
    _add_models(commands.add_parser("models", help="The trained models: list, show, compare, promote, rollback."))
    sub = commands.add_parser("catalogue", help="The features as a page (docs/features.md).")
    sub.set_defaults(run=steps.print_catalogue)
    sub = commands.add_parser("rules", help="The rules of cleaning as a page (docs/rules.md).")
    sub.set_defaults(run=steps.print_rules)
    sub = commands.add_parser("source", help="Look at a source's mapping.")
    inner = sub.add_subparsers(required=True, metavar="COMMAND")
    check = inner.add_parser("check", help="What a mapping makes of the first rows, and what is wrong with it.")
    check.add_argument("mapping", help="conf/sources/NAME.toml, or NAME")
    check.add_argument("--input", default=None, help="folder or URI of the files")
    check.add_argument("--rows", type=int, default=5)
    check.set_defaults(run=steps.check_source)
    sub = commands.add_parser("sample", help="Make a realistic shop to try things on.")
    sub.add_argument("--out", type=Path, required=True)
    sub.add_argument("--customers", type=int, default=2000)
    sub.add_argument("--days", type=int, default=120)
    sub.add_argument("--seed", type=int, default=1)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    sub.add_argument("--last-day", type=date.fromisoformat, default=yesterday, help="default: yesterday, UTC")
    sub.add_argument("--print-last-day", action="store_true", help="only print the last day of the shop that lies there")
    sub.set_defaults(run=steps.make_sample)
    return parser


def _add_models(parser: argparse.ArgumentParser) -> None:
    inner = parser.add_subparsers(required=True, metavar="COMMAND")
    inner.add_parser("list", help="Every model with its figures.").set_defaults(run=registry.print_list)
    for name, about, run in (
        ("show", "What a model was made of and from.", registry.print_one),
        ("compare", "In what two models differ.", registry.print_comparison),
        ("promote", "Make a model champion.", registry.promote),
        ("rollback", "Make the champion before this one champion again.", registry.rollback),
    ):
        sub = inner.add_parser(name, help=about)
        sub.set_defaults(run=run)
        if name != "rollback":
            sub.add_argument("version")
        if name == "compare":
            sub.add_argument("other")
        if name in ("promote", "rollback"):
            sub.add_argument("--since", type=_day, default=None, help="first day that is encoded with it")


def _add_days(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--day", type=_day, help="the day, YYYY-MM-DD")
    parser.add_argument("--from", dest="start", type=_day, help="first of several days")
    parser.add_argument("--to", dest="end", type=_day, help="last of several days")


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a day; write YYYY-MM-DD") from None
    today = datetime.now(UTC).date()
    if day > today:
        raise argparse.ArgumentTypeError(f"day {day} is in the future (today is {today}); name a day that is over")
    return day


def _above_zero(kind: type) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = kind(text)
        if not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"'{text}' is not above 0")
        return number

    return read


def _steps(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - {step.name for step in flow.STEPS}):
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is not a step")
    return names


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _die_with_parent() -> None:
    """On Linux a submitted driver ends when what started it is killed, so that no job runs on unseen."""
    if sys.platform == "linux" and os.environ.get("SHOAL_PARENT") == "watch":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
