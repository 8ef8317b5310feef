"""What each command does: opens the session, calls the tables of a layer in order, and says how long it took."""

import argparse
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial

from jobs import flow, settings
from jobs.errors import UserError
from jobs.lake import Lake, log, side_by_side, span
from jobs.settings import Settings

TRIALS = 30  # of a search that is told neither trials nor minutes


def run(arguments: argparse.Namespace) -> None:
    """One step of jobs/flow.py for its days."""
    made = settings.load()
    days = days_of(arguments)
    if arguments.command == "train":
        _train(made, days[-1], arguments)
    elif arguments.command == "report":
        _report(made, days)
    else:
        with _session(arguments.command) as lake:
            _run(lake, made, arguments, days)


def refresh(arguments: argparse.Namespace) -> None:
    """The steps of the day, all but those not asked for, with one Spark session; training as a process of its own environment."""
    made = settings.load()
    days = days_of(arguments)
    arguments.started_at = datetime.now(UTC)
    steps = [step for step in flow.STEPS if step.name in arguments.steps]
    with _session("refresh") as lake:
        if any(step.command[0] in ("check", "encode") for step in steps):
            from jobs import check

            check.preload()
        for step in steps:
            arguments.command = step.command[0]
            arguments.layer = step.command[-1]
            if step.name == "train":
                _train_apart(days[-1], arguments.retrain)
            elif step.name == "report":
                _report(made, days)
            else:
                _run(lake, made, arguments, days)


def _run(lake: Lake, made: Settings, arguments: argparse.Namespace, days: list[date]) -> None:
    started = time.monotonic()
    name = " ".join([arguments.command] + ([arguments.layer] if arguments.command == "check" else []))
    _STEPS[arguments.command](lake, made, days, arguments)
    log(f"done  {name:<28} {span(days)} {time.monotonic() - started:20.1f} s")


def _land(lake: Lake, made: Settings, days: list[date], arguments: argparse.Namespace) -> None:
    import importlib

    from jobs import source
    from jobs.bronze import files

    vendor = source.load(made.source)
    landed_at = datetime.now(UTC).replace(microsecond=0)
    new = side_by_side(
        {
            mapping: partial(importlib.import_module(f"jobs.bronze.{table}").run, lake, made, vendor, days[-1], landed_at)
            for table, mapping in vendor.mappings.items()
        }
    )
    files.record(lake, vendor.name, new, landed_at)


def _clean(lake: Lake, made: Settings, days: list[date], arguments: argparse.Namespace) -> None:
    from jobs import clean, source

    clean.run(lake, made, source.load(made.source), days)


def _check(lake: Lake, made: Settings, days: list[date], arguments: argparse.Namespace) -> None:
    from jobs import check

    check.run(lake, made, arguments.layer, days)


def _features(lake: Lake, made: Settings, days: list[date], arguments: argparse.Namespace) -> None:
    from jobs.features import customer_days, customers

    customer_days.run(lake, made, days)
    for day in [*_backtest_days(lake, made, days[-1], arguments), *days]:
        customers.run(lake, made, day)


def _backtest_days(lake: Lake, made: Settings, day: date, arguments: argparse.Namespace) -> list[date]:
    """The earlier day whose customers a training on `day` needs too, where one is due and they are not there."""
    from jobs import models

    champion, before = models.champion(made.models, day), day - timedelta(days=made.train.backtest_days)
    is_young = champion and (day - date.fromisoformat(champion["since"])).days < made.train.retrain_every_days
    is_due = made.train.backtest_days and (getattr(arguments, "retrain", False) or not is_young)
    is_known = before in lake.days("features.customers") or before < min(lake.days("features.customer_days"), default=day)
    return [before] if is_due and not is_known else []


def _encode(lake: Lake, made: Settings, days: list[date], arguments: argparse.Namespace) -> None:
    from jobs import check
    from jobs.encoded import customers

    check.preload()
    for day in days:
        customers.run(lake, made, day)
    check.run(lake, made, "encoded", days)  # here and not as a step of its own, which would take as long again to start


def _segment(lake: Lake, made: Settings, days: list[date], arguments: argparse.Namespace) -> None:
    from jobs.encoded import customers
    from jobs.segments import assignments, calibration, candidates, definitions, history, lineage

    for day in days:
        candidates.run(lake, made, day)
        if customers.is_stale(lake, made, day):  # the gate took another representation than was encoded, or the model before
            _encode(lake, made, [day], arguments)
        for table in (definitions, calibration, lineage, assignments, history):
            table.run(lake, made, day)


def _publish(lake: Lake, made: Settings, days: list[date], arguments: argparse.Namespace) -> None:
    from jobs.marts import customer_segments, refreshes, segment_changes, segment_moves, segment_profiles

    started_at = arguments.started_at or datetime.now(UTC)
    for day in days:
        known = customer_segments.prepared(lake, made, day)  # what is missing is said before anything is written
        calls = {customer_segments.TABLE.name: partial(customer_segments.publish, lake, day, known)} if known else {}
        others = (segment_profiles, segment_changes, segment_moves)
        side_by_side(calls | {table.TABLE.name: partial(table.run, lake, made, day) for table in others})
        refreshes.run(lake, made, day, arguments.run_id, started_at, datetime.now(UTC))


_STEPS = {
    "land": _land,
    "clean": _clean,
    "check": _check,
    "features": _features,
    "encode": _encode,
    "segment": _segment,
    "publish": _publish,
}


def _train(made: Settings, day: date, arguments: argparse.Namespace) -> None:
    from jobs import autoencoder

    if not arguments.search:
        if arguments.trials or arguments.minutes or arguments.sampler:
            raise UserError("train: --trials, --minutes and --sampler go with --search")
        autoencoder.run(made, day, arguments.retrain)
        return
    from jobs.autoencoder import search

    trials = None if arguments.minutes else arguments.trials or TRIALS
    search.run(made, day, trials, arguments.minutes, arguments.sampler or "tpe")


def _train_apart(day: date, retrain: bool) -> None:
    """Training in the train environment, when this process runs every step of the day."""
    python = os.environ.get("SHOAL_TRAIN_PYTHON") or str(settings.HOME / ".venv" / "train" / "bin" / "python")
    command = [python, "-m", "jobs", "train", "--day", str(day), *(["--retrain"] if retrain else [])]
    try:
        code = subprocess.run(command, cwd=settings.HOME, check=False).returncode
    except FileNotFoundError:
        raise UserError(f"train: {python} does not exist; run: make setup, or name one with SHOAL_TRAIN_PYTHON") from None
    if code not in (0, flow.NOT_DUE_EXIT_CODE):
        raise UserError(f"train: {day}: training ended with exit code {code}; its own message stands above")


def _report(made: Settings, days: list[date]) -> None:
    from jobs import report

    for day in days:
        log(f"wrote {report.run(made, day)}")


def print_segments(arguments: argparse.Namespace) -> None:
    """The published segments as a table, read without Spark."""
    from jobs import report

    print(report.segments_as_text(settings.load()))


def print_changes(arguments: argparse.Namespace) -> None:
    """Whose segment is another than on an earlier day, as a table of how many or as a file of each; read without Spark."""
    from jobs import changes

    rows, day = changes.between(settings.load(), arguments.since, arguments.day)
    if arguments.out:
        changes.write(rows, arguments.out)
    print(changes.as_text(rows, arguments.since, day))


def print_reconciliation(arguments: argparse.Namespace) -> None:
    """What became of the rows of the days, read without Spark; raises UserError where some are unaccounted for."""
    from jobs import report

    text, wrong = report.reconciliation_as_text(settings.load(), days_of(arguments))
    print(text)
    if wrong:
        others = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        raise UserError(f"reconcile: {wrong[0]}{others}: rows or money unaccounted for; look at quality.reconciliation")


def print_tables(arguments: argparse.Namespace) -> None:
    """Every table of the lake that exists: version, rows, newest day."""
    from deltalake import DeltaTable

    made = settings.load()
    print(f"{'table':<30}{'version':>9}{'rows':>15}  newest day")
    for layer, tables in (flow.TABLES | flow.QUALITY).items():
        for table in tables:
            path = f"{made.lake}/{layer}/{table}"
            if DeltaTable.is_deltatable(path):
                delta = DeltaTable(path)
                actions = delta.get_add_actions(flatten=True)
                rows = sum(actions.column("num_records").to_pylist())
                names = actions.schema.names
                column = next((c for c in ("partition.day", "max.day") if c in names), None)
                newest = max((d for d in actions.column(column).to_pylist() if d), default="") if column else ""
                print(f"{layer + '.' + table:<30}{delta.version():>9}{rows:>15,}  {newest}")


def print_catalogue(arguments: argparse.Namespace) -> None:
    """docs/features.md, from the catalogue."""
    from jobs import catalogue

    print(catalogue.as_markdown(), end="")


def print_rules(arguments: argparse.Namespace) -> None:
    """docs/rules.md, from the declared rules."""
    from jobs import rules

    print(rules.as_markdown(), end="")


def check_source(arguments: argparse.Namespace) -> None:
    """Show what a mapping makes of the first rows of each kind of file, and what is wrong with it."""
    from jobs import source
    from jobs.bronze import _landing

    made = settings.load()
    vendor = source.load(arguments.mapping)
    root = arguments.input or made.input
    with _session("source check") as lake:
        for table, mapping in vendor.mappings.items():
            day = datetime.now(UTC).date()
            found = source.find(root, mapping)
            log(f"\n{table}: {len(found)} files {mapping.files}, first {found[0][0]}")
            rows = _landing.preview(lake, made, root, vendor, table, day, arguments.rows).collect()
            shown = [c for c in (*source.COLUMNS[table], "day") if c in mapping.columns or c == "day"]
            for column in shown:
                values = [str(row[column]) if row[column] is not None else "null" for row in rows]
                empty = "   <- null in every row shown" if rows and set(values) == {"null"} else ""
                log(f"  {column:<16} {' | '.join(v[:24] for v in values)}{empty}")
            if not rows:
                log("  no rows: check 'where'")


def make_sample(arguments: argparse.Namespace) -> None:
    """Make the sample shop, or say the last day of the one that is there."""
    from jobs import sample

    if arguments.print_last_day:
        print(sample.last_day(arguments.out))
        return
    sample.write(arguments.out, arguments.customers, arguments.days, arguments.seed, arguments.last_day)


def days_of(arguments: argparse.Namespace) -> list[date]:
    """The days a command is about: --day, or --from to --to. Raises UserError for neither, both or a reversed range."""
    if arguments.day and not (arguments.start or arguments.end):
        return [arguments.day]
    if arguments.start and arguments.end and not arguments.day:
        if arguments.start > arguments.end:
            raise UserError(f"--from {arguments.start} is after --to {arguments.end}")
        return [arguments.start + timedelta(days=n) for n in range((arguments.end - arguments.start).days + 1)]
    raise UserError("say which day: --day D, or --from A --to B")


@contextmanager
def _session(name: str) -> Iterator[Lake]:
    from jobs.session import open_session

    started = time.monotonic()
    spark = open_session(f"shoal {name}")
    log(f"open  Spark {spark.version} {time.monotonic() - started:45.1f} s")
    try:
        yield Lake(spark, settings.load().lake)
    finally:
        spark.stop()
