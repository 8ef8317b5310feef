"""Measure each step on a shop in which one customer has a twentieth of all events."""

from dataclasses import replace
from pathlib import Path

from benchmarks import measure
from benchmarks.generator import Shop
from benchmarks.history import history, next_day

SHARE = 0.05
SHORT_SECONDS = 5  # shorter steps vary too much for a ratio


def run(shop: Shop, folder: Path, events: int) -> None:
    """Print, for each step, the seconds with that customer relative to those without."""
    even, skewed = (history(replace(shop, robot=share), folder) for share in (0, SHARE))
    next_days = [next_day(shop_history, events) for shop_history in (even, skewed)]
    for period, (even_run, skewed_run) in {"all": (even.from_empty, skewed.from_empty), "next day": next_days}.items():
        measure.log(f"CPU seconds, {period}: {skewed_run.cpu_seconds:.1f} with that customer, {even_run.cpu_seconds:.1f} without")
        for step, seconds in even_run.steps.items():
            ratio = skewed_run.steps[step] / seconds
            figure = f"{step}, {period}, {shop.events:,} events: a customer with {SHARE:.0%} / none"
            if seconds < SHORT_SECONDS:
                measure.log(f"{figure}: {ratio:.2f}, of {seconds:.1f} s: too short to compare")
            else:
                measure.check_at_most(figure, ratio, 1.33)
