"""What each step of jobs/flow.py runs: this module only dispatches to the layers and says how long a step took."""

import importlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from jobs import flow
from jobs.concurrency import run_in_parallel
from jobs.config.settings import HOME, Settings
from jobs.errors import UserError
from jobs.progress import format_days, log

if TYPE_CHECKING:  # training imports this module, and its environment has no Spark
    from jobs.storage.lake import Lake


@dataclass(frozen=True)
class Search:
    """How `shoal train --search` tries settings: a number of trials or of minutes, and the sampler of Optuna."""

    trials: int | None = 30
    minutes: float | None = None
    sampler: str = "tpe"


@dataclass(frozen=True)
class Options:
    """What a step is run for: its days, oldest first, and what a single step needs besides."""

    days: list[date]
    retrain: bool = False
    run_id: str = "by_hand"  # of marts.refreshes
    started_at: datetime | None = None  # when the run began; None: now
    search: Search | None = None


def run_command(command: tuple[str, ...], settings: Settings, options: Options) -> None:
    """Run one step, such as ("land",) or ("check", "clean"), for its days."""
    if command == ("train",):
        _train(settings, options)
    elif command == ("report",):
        _report(settings, options.days)
    else:
        with open_lake(" ".join(command), settings) as lake:
            run_on_lake(lake, command, settings, options)


def refresh(settings: Settings, steps: list[flow.Step], options: Options) -> None:
    """Run these steps of the day with one Spark session; training runs as a process of its own environment."""
    with open_lake("refresh", settings) as lake:
        if any(step.command[0] in ("check", "encode") for step in steps):
            from jobs import check

            check.preload()
        for step in steps:
            if step.name == "train":
                train_in_own_environment(settings, options.days[-1], options.retrain)
            elif step.name == "report":
                _report(settings, options.days)
            else:
                run_on_lake(lake, step.command, settings, options)


def run_on_lake(lake: "Lake", command: tuple[str, ...], settings: Settings, options: Options) -> None:
    """Run one step that works on the lake, and log how long it took."""
    started = time.monotonic()
    name, *layer = command
    _LAKE_STEPS[name](lake, settings, options, *layer)
    log(f"done  {' '.join(command):<28} {format_days(options.days)} {time.monotonic() - started:20.1f} s")


@contextmanager
def open_lake(name: str, settings: Settings) -> "Iterator[Lake]":
    """Open a Spark session for a step, and end it with the block."""
    from jobs.engine.session import open_session
    from jobs.storage.lake import Lake

    started = time.monotonic()
    spark = open_session(f"shoal {name}")
    log(f"open  Spark {spark.version} {time.monotonic() - started:45.1f} s")
    try:
        yield Lake(spark, settings.lake)
    finally:
        spark.stop()


def _land(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.bronze import files
    from jobs.config.source_mapping import load_source

    source = load_source(settings.source)
    landed_at = datetime.now(UTC).replace(microsecond=0)
    landed = run_in_parallel(
        {
            mapping: partial(
                importlib.import_module(f"jobs.bronze.{table}").run, lake, settings, source, options.days[-1], landed_at
            )
            for table, mapping in source.mappings.items()
        }
    )
    files.record(lake, source.name, landed, landed_at)


def _clean(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs import clean
    from jobs.config.source_mapping import load_source

    clean.run(lake, settings, load_source(settings.source), options.days)


def _check(lake: "Lake", settings: Settings, options: Options, layer: str) -> None:
    from jobs import check

    check.run(lake, settings, layer, options.days)


def _features(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.features import customer_days, customers

    customer_days.run(lake, settings, options.days)
    for day in [*backtest_days(lake, settings, options), *options.days]:
        customers.run(lake, settings, day)


def backtest_days(lake: "Lake", settings: Settings, options: Options) -> list[date]:
    """Return the earlier day whose customers a training needs too, where one is due and they are not there."""
    from jobs.storage import models

    day = options.days[-1]
    champion, backtest = models.champion(settings.models, day), day - timedelta(days=settings.train.backtest_days)
    is_young = champion and (day - date.fromisoformat(champion["since"])).days < settings.train.retrain_every_days
    is_due = settings.train.backtest_days and (options.retrain or not is_young)
    first_day = min(lake.days("features.customer_days"), default=day)
    is_there = backtest in lake.days("features.customers") or backtest < first_day
    return [backtest] if is_due and not is_there else []


def _encode(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs import check
    from jobs.encoded import customers

    check.preload()
    for day in options.days:
        customers.run(lake, settings, day)
    check.run(
        lake, settings, "encoded", options.days
    )  # here and not as a step of its own, which would take as long again to start


def _segment(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.encoded import customers
    from jobs.segments import assignments, calibration, candidates, definitions, history, lineage

    for day in options.days:
        candidates.run(lake, settings, day)
        if customers.is_stale(lake, settings, day):  # the gate took another representation than was encoded, or the model before
            _encode(lake, settings, Options([day]))
        for table in (definitions, calibration, lineage, assignments, history):
            table.run(lake, settings, day)


def _publish(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.marts import customer_segments, refreshes, segment_changes, segment_moves, segment_profiles

    started_at = options.started_at or datetime.now(UTC)
    for day in options.days:
        prepared = customer_segments.prepared(lake, settings, day)  # what is missing is said before anything is written
        calls = {customer_segments.TABLE.name: partial(customer_segments.publish, lake, day, prepared)} if prepared else {}
        others = (segment_profiles, segment_changes, segment_moves)
        run_in_parallel(calls | {table.TABLE.name: partial(table.run, lake, settings, day) for table in others})
        refreshes.run(lake, settings, day, options.run_id, started_at, datetime.now(UTC))


_LAKE_STEPS = {
    "land": _land,
    "clean": _clean,
    "check": _check,
    "features": _features,
    "encode": _encode,
    "segment": _segment,
    "publish": _publish,
}


def _train(settings: Settings, options: Options) -> None:
    from jobs.autoencoder import pipeline

    day = options.days[-1]
    if options.search is None:
        pipeline.run(settings, day, options.retrain)
        return
    from jobs.autoencoder import search

    search.run(settings, day, options.search.trials, options.search.minutes, options.search.sampler)


def train_in_own_environment(settings: Settings, day: date, retrain: bool) -> None:
    """Run `shoal train` in the train environment. Raises UserError where it is missing or training fails."""
    python = os.environ.get("SHOAL_TRAIN_PYTHON") or str(HOME / ".venv" / "train" / "bin" / "python")
    command = [python, "-m", "jobs", "train", "--day", str(day), *(["--retrain"] if retrain else [])]
    roots = {"SHOAL_LAKE": settings.lake, "SHOAL_MODELS": settings.models}
    try:
        code = subprocess.run(command, cwd=HOME, env=os.environ | roots, check=False).returncode
    except FileNotFoundError:
        raise UserError(f"train: {python} does not exist; run: make setup, or name one with SHOAL_TRAIN_PYTHON") from None
    if code not in (0, flow.NOT_DUE_EXIT_CODE):
        raise UserError(f"train: {day}: training ended with exit code {code}; its own message stands above")


def _report(settings: Settings, days: list[date]) -> None:
    from jobs.report import pipeline

    pipeline.run(settings, days)
