"""Lakes with the history of a generated shop: each is made once, by landing and cleaning its files, and then copied."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from benchmarks import generator, measure
from benchmarks.generator import LAST_DAY, Shop

NEXT_DAY = LAST_DAY + timedelta(days=1)
STEPS = "land,clean,features"


@dataclass(frozen=True)
class History:
    """A shop's vendor files, its lake after the last day, and the run that made the lake from nothing with an engine."""

    shop: Shop
    folder: Path
    engine: str
    from_empty: measure.Run

    @property
    def lake(self) -> Path:
        """The lake after the last day."""
        return self.folder / f"lake_{self.engine}"

    def environment(self, lake: Path, input: Path | None = None) -> dict[str, str]:
        return _environment(self.folder, lake, input or self.folder / "input", self.engine)

    @contextmanager
    def copy(self, name: str) -> Iterator[Path]:
        """Yield a copy of the lake, which is removed afterwards."""
        with _linked(self.lake, self.folder / name) as lake:
            yield lake

    @contextmanager
    def with_next_day(self, events: int) -> Iterator[Path]:
        """Yield the vendor files and those of one more day."""
        with _linked(self.folder / "input", self.folder / "input_and_next_day") as files:
            generator.write(self.shop, files, [NEXT_DAY], events)
            yield files


def history(shop: Shop, root: Path, engine: str = "local") -> History:
    """Return the history of a shop under `root`; where it is missing, one process makes it from an empty lake."""
    folder = root / shop.name
    input_done, done = folder / "input.done", folder / f"from_empty_{engine}.json"
    if not input_done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        measure.log(f"making {shop.events:,} events of {shop.days} days in {folder}")
        generator.write(shop, folder / "input")
        input_done.touch()
    if not done.exists():
        lake = folder / f"lake_{engine}"
        shutil.rmtree(lake, ignore_errors=True)
        measure.log(f"refreshing {STEPS} from an empty lake, engine {engine}")
        refresh(_environment(folder, lake, folder / "input", engine), LAST_DAY).save(done)
    return History(shop, folder, engine, measure.Run.load(done))


def refresh(environment: dict[str, str], day: date) -> measure.Run:
    """Run STEPS of one day in one process."""
    command = measure.python_command("-m", "jobs", "refresh", "--steps", STEPS, "--day", str(day))
    return measure.run_command(command, environment)


def next_day(past: History, events: int, nth: int = 0) -> measure.Run:
    """Refresh one more day of so many events, on a copy of the lake; the run of each `nth` is kept and not repeated."""
    done = past.folder / f"next_day_{past.engine}_{events}_{nth}.json"
    if not done.exists():
        measure.log(f"refreshing the next day, {events:,} events, after {past.shop.name}, engine {past.engine}")
        with past.copy("lake_next_day") as lake, past.with_next_day(events) as files:
            refresh(past.environment(lake, files), NEXT_DAY).save(done)
    return measure.Run.load(done)


def _environment(folder: Path, lake: Path, input: Path, engine: str) -> dict[str, str]:
    roots = {"lake": lake, "models": folder / "models", "reports": folder / "reports", "input": input}
    others = {"SHOAL_SOURCE": str(input / "source.toml"), "SHOAL_ENGINE": engine}
    return {f"SHOAL_{name.upper()}": str(path) for name, path in roots.items()} | others


@contextmanager
def _linked(source: Path, copy: Path) -> Iterator[Path]:
    """Yield a copy of a folder; its Parquet files, which nobody changes, are hard links."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy, copy_function=lambda a, b: (os.link if a.endswith(".parquet") else shutil.copy2)(a, b))
    try:
        yield copy
    finally:
        shutil.rmtree(copy)
