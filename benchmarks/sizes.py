"""Measure each step as the history grows: seconds, Spark jobs, shuffles and their bytes, as a table and a plot."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks import measure
from benchmarks.generator import Shop
from benchmarks.history import history, next_day
from benchmarks.measure import Run

SIZES = (1_000_000, 3_000_000, 10_000_000, 30_000_000)


def run(shop: Shop, folder: Path, events: int, plot: Path) -> None:
    """Measure every size up to the shop's: all of it from an empty lake, and one day after it."""
    runs: dict[str, dict[int, Run]] = {"from an empty lake": {}, "the next day": {}}
    for size in sorted({*(size for size in SIZES if size < shop.events), shop.events}):
        shop_history = history(replace(shop, events=size), folder)
        runs["from an empty lake"][size] = shop_history.from_empty
        runs["the next day"][size] = next_day(shop_history, events)
    measure.log("\n".join(format_table(runs)))
    draw_plot(runs, plot)
    measure.log(f"drew {plot}")


def format_table(runs: Mapping[str, Mapping[int, Run]]) -> list[str]:
    """Return the lines of a Markdown table, one row per kind of run, size and step."""
    lines = ["| run | events | step | seconds | Spark jobs | shuffles | shuffled, MB | peak, GiB |", "|" + "---|" * 8]
    for kind, by_size in runs.items():
        for size, run in by_size.items():
            for step, cost in run.steps.items():
                cells = f"{cost.seconds:.1f} | {cost.jobs} | {cost.shuffles} | {cost.shuffle_bytes / 1e6:,.1f}"
                lines.append(f"| {kind} | {size:,} | {step} | {cells} | |")
            lines.append(f"| {kind} | {size:,} | whole process | {run.seconds:.1f} | | | | {run.peak_bytes / 2**30:.2f} |")
    return lines


def draw_plot(runs: Mapping[str, Mapping[int, Run]], path: Path) -> None:
    """Draw seconds by events on logarithmic axes, a line per step; the lines of the next day are dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogFormatter, NullFormatter

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for (kind, by_size), style in zip(runs.items(), ("-", "--"), strict=True):
        for n, step in enumerate(next(iter(by_size.values())).steps):
            seconds = [run.steps[step].seconds for run in by_size.values()]
            axes.loglog(list(by_size), seconds, style, marker="o", color=f"C{n}", label=f"{step}, {kind}")
    sizes = list(next(iter(runs.values())))
    axes.set_xticks(sizes, labels=[f"{size / 1e6:g} M" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(LogFormatter(minor_thresholds=(2, 1)))
    axes.set_xlabel("events in the history")
    axes.set_ylabel("seconds")
    axes.grid(which="both", alpha=0.2)
    axes.legend(fontsize=8, handlelength=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
