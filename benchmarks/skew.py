"""One customer with a twentieth of all events: what he costs each step."""

from dataclasses import replace
from pathlib import Path

from benchmarks import measure
from benchmarks.generator import Shop
from benchmarks.history import history, next_day

SHARE = 0.05
SHORT_SECONDS = 5  # a step below this is the noise of the machine


def run(shop: Shop, work: Path, events: int) -> None:
    """Print by step the ratio of the shop with him to the one without."""
    even, skewed = (history(replace(shop, robot=share), work) for share in (0, SHARE))
    days = [next_day(past, events) for past in (even, skewed)]
    for told, (without, with_him) in {"all": (even.from_empty, skewed.from_empty), "next day": days}.items():
        for name, cost in without.steps.items():
            ratio = with_him.steps[name].seconds / cost.seconds
            what = f"{name}, {told}, {shop.events:,} events: a customer with {SHARE:.0%} / none"
            if cost.seconds < SHORT_SECONDS:
                measure.say(f"{what}: {ratio:.2f}, of {cost.seconds:.1f} s: too short to judge")
            else:
                measure.at_most(what, ratio, 1.33)
