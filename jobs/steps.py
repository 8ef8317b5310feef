"""What each step of jobs/flow.py runs: this module only dispatches to the layers and says how long a step took."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING

from jobs import flow, watchdog
from jobs.config.settings import HOME, Settings
from jobs.errors import NotDue, UserError
from jobs.progress import format_days, log
from jobs.storage import scratch
from jobs.storage.lock import hold_lake

if TYPE_CHECKING:  # training imports this module, and its environment has no Spark
    import pyarrow as pa

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
    dead_letters: bool = False  # of earlier days: whether `notify` sends them again


def run_command(command: tuple[str, ...], settings: Settings, options: Options) -> None:
    """Run one step, such as ("land",) or ("check", "clean"), for its days."""
    name = " ".join(command)
    with watchdog.end_if_stalled(name, format_days(options.days), settings.stall_minutes):
        if command == ("train",):
            _train(settings, options)
        elif command == ("report",):
            _report(settings, options.days)
        elif command == ("notify",) and not _has_webhooks(settings):
            raise NotDue(f"no webhook is declared in {settings.activation}")
        else:
            with lock_lake(name, settings, options.days), open_lake(name, settings) as lake:
                run_on_lake(lake, command, settings, options)


def refresh(settings: Settings, steps: list[flow.Step], options: Options) -> None:
    """Run these steps of the day in this process; training runs as a process of its own environment."""
    stall_limit = watchdog.end_if_stalled("refresh", format_days(options.days), settings.stall_minutes)
    with stall_limit as watch, lock_lake("refresh", settings, options.days), open_lake("refresh", settings) as lake:
        if any(step.command[0] in ("check", "encode") for step in steps):
            from jobs.quality import pipeline

            pipeline.preload()
        for step in steps:
            watch.step = " ".join(step.command)
            if step.name == "train":
                train_in_own_environment(settings, options.days[-1], options.retrain)
            elif step.name == "report":
                _report(settings, options.days)
            elif step.name != "notify" or _has_webhooks(settings):
                run_on_lake(lake, step.command, settings, options)


def run_on_lake(lake: "Lake", command: tuple[str, ...], settings: Settings, options: Options) -> None:
    """Run one step that works on the lake, and log how long it took."""
    started = time.monotonic()
    name, *layer = command
    _LAKE_STEPS[name](lake, settings, options, *layer)
    from jobs.engine.runner import choose_engine

    engine = choose_engine(settings)
    log(f"done  {' '.join(command):<28} {format_days(options.days)} {time.monotonic() - started:20.1f} s  {engine}")


def forget_file(settings: Settings, file: str, table: str | None, undo: bool) -> None:
    """Take the rows of a landed file out of bronze, of one table or of all, or let the next landing take it up again."""
    from jobs.bronze import pipeline

    now = datetime.now(UTC).replace(microsecond=0)
    with lock_lake("source forget", settings, [now.date()]), open_lake("source forget", settings) as lake:
        if undo:
            pipeline.remember_file(lake, settings, file, table)
        else:
            pipeline.forget_file(lake, settings, file, table, now)


def import_vectors(settings: Settings, rows: "pa.Table") -> int:
    """Add vectors of the shop's own to features.vectors; return how many it has now."""
    from jobs.features import vectors

    with lock_lake("vectors import", settings, [rows["known_from"][0].as_py()]), open_lake("vectors import", settings) as lake:
        return vectors.write_vectors(lake, rows)


def lock_lake(name: str, settings: Settings, days: list[date]) -> AbstractContextManager[None]:
    """Hold the lock of the lake during the block, for a command that writes tables."""
    return hold_lake(settings.lake, f"shoal {name}", format_days(days), datetime.now(UTC))


@contextmanager
def open_lake(name: str, settings: Settings) -> "Iterator[Lake]":
    """Open the lake for a step. Its Spark session is opened where something needs it, and ends with the block.

    What killed steps have left in the folder of temporary files is removed.
    """
    from jobs.engine.lazy_session import LazySession
    from jobs.storage.lake import Lake

    scratch.clear_abandoned()
    with LazySession(f"shoal {name}") as session:
        yield Lake(session, settings.lake)


def _land(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.bronze import pipeline

    pipeline.run(lake, settings, options.days[-1], datetime.now(UTC).replace(microsecond=0))


def _clean(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.clean import pipeline
    from jobs.config.source_mapping import load_source

    pipeline.run(lake, settings, load_source(settings.source), options.days)


def _check(lake: "Lake", settings: Settings, options: Options, layer: str) -> None:
    from jobs.quality import pipeline

    for checked in flow.CHECKED_TOGETHER.get(layer, (layer,)):
        if checked == layer or all(lake.exists(f"{checked}.{table}") for table in flow.CHECKED_TABLES[checked]):
            pipeline.run(lake, settings, checked, options.days)


def _features(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.features import pipeline

    pipeline.run(lake, settings, options.days, options.retrain)


def _encode(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.encoded import pipeline as encoded
    from jobs.quality import pipeline as quality

    quality.preload()
    encoded.run(lake, settings, options.days)
    # A check in a step of its own would take as long again to start.
    quality.run(lake, settings, "encoded", options.days)


def _segment(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.encoded import customers
    from jobs.segments import pipeline

    def encode_again(day: date) -> None:
        if customers.is_stale(lake, settings, day):
            _encode(lake, settings, Options([day]))

    pipeline.run(lake, settings, options.days, encode_again)


def _score(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.scores import pipeline

    pipeline.run(lake, settings, options.days, options.retrain)


def _publish(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.engine.runner import choose_engine
    from jobs.marts import pipeline

    started_at = options.started_at or datetime.now(UTC)
    engine = choose_engine(settings)
    pipeline.run(lake, settings, options.days, options.run_id, started_at, partial(datetime.now, UTC), engine)


def _has_webhooks(settings: Settings) -> bool:
    from jobs.config.activation import load_activation

    return bool(load_activation(settings.activation).webhooks)


def _notify(lake: "Lake", settings: Settings, options: Options) -> None:
    from jobs.activation import pipeline
    from jobs.config.activation import load_activation

    activation = load_activation(settings.activation)
    pipeline.run(lake, activation, options.days, partial(datetime.now, UTC), options.dead_letters)


_LAKE_STEPS = {
    "land": _land,
    "clean": _clean,
    "check": _check,
    "features": _features,
    "encode": _encode,
    "segment": _segment,
    "score": _score,
    "publish": _publish,
    "notify": _notify,
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
