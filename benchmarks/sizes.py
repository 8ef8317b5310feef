"""Measure both engines as the history grows: seconds, CPU seconds and memory, as a table and a plot.

The plot has lines for Spark on more cores than were measured. They are extrapolated, and marked so: a run takes a fixed time, and
its CPU seconds divided by the cores.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks import measure
from benchmarks.generator import Shop
from benchmarks.history import history, next_day
from benchmarks.measure import Run

SIZES = (1_000_000, 3_000_000, 10_000_000, 30_000_000)
MOST_ON_SPARK = 10_000_000  # events; more take long on few cores
CORES = (8, 32)  # of the extrapolated lines


def run(shop: Shop, folder: Path, events: int, plot: Path) -> None:
    """Measure every size up to the shop's: all of it from an empty lake, and one day after it."""
    first: dict[str, dict[int, Run]] = {"local": {}, "spark": {}}
    later: dict[str, dict[int, Run]] = {"local": {}, "spark": {}}
    for size in sorted({*(size for size in SIZES if size < shop.events), shop.events}):
        for engine in ("local", "spark") if size <= MOST_ON_SPARK else ("local",):
            shop_history = history(replace(shop, events=size), folder, engine)
            first[engine][size] = shop_history.from_empty
            later[engine][size] = next_day(shop_history, events)
    measure.log("\n".join(format_table({"from an empty lake": first, "the next day": later})))
    draw_plot(first, plot)
    measure.log(f"drew {plot}")


def format_table(runs: Mapping[str, Mapping[str, Mapping[int, Run]]]) -> list[str]:
    """Return the lines of a Markdown table, one row per kind of run, engine and size."""
    lines = ["| run | engine | events | land, s | clean, s | features, s | process, s | CPU, s | peak, GiB |", "|" + "---|" * 9]
    for kind, by_engine in runs.items():
        for engine, by_size in by_engine.items():
            for size, run in by_size.items():
                steps = " | ".join(f"{run.steps[step]:.1f}" for step in ("land", "clean", "features"))
                whole = f"{run.seconds:.1f} | {run.cpu_seconds:.0f} | {run.peak_bytes / 2**30:.2f}"
                lines.append(f"| {kind} | {engine} | {size:,} | {steps} | {whole} |")
    return lines


def extrapolate(run: Run, cores: int, measured_cores: int) -> float:
    """Return the seconds of a run on more cores: its fixed time stays, its CPU seconds are divided.

    >>> extrapolate(Run(60.0, 0, cpu_seconds=80.0), 8, 2)
    30.0
    """
    fixed = max(0.0, run.seconds - run.cpu_seconds / measured_cores)
    return fixed + run.cpu_seconds / cores


def draw_plot(runs: Mapping[str, Mapping[int, Run]], path: Path) -> None:
    """Draw seconds by events on logarithmic axes, a line per engine; extrapolated lines are dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogFormatter, NullFormatter

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    here = os.cpu_count() or 1
    for engine, by_size in runs.items():
        seconds = [run.seconds for run in by_size.values()]
        axes.loglog(list(by_size), seconds, marker="o", label=f"{engine}, {here} cores, measured")
    for cores in CORES:
        seconds = [extrapolate(run, cores, here) for run in runs["spark"].values()]
        axes.loglog(list(runs["spark"]), seconds, "--", label=f"spark, {cores} cores, extrapolated")
    sizes = list(runs["local"])
    axes.set_xticks(sizes, labels=[f"{size / 1e6:g} M" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(LogFormatter(minor_thresholds=(2, 1)))
    axes.set_xlabel("events in the history")
    axes.set_ylabel("seconds to land, clean and make the features")
    axes.grid(which="both", alpha=0.2)
    axes.legend(fontsize=8, handlelength=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
