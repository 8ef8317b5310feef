"""`make bench`: what Shoal takes, beside what one would use instead. `python -m benchmarks features --events 1000000`.

All parts, or those named. Every figure is of whole processes of one run; it ends with a table of what was measured, the
target, and whether it was met. The exit code is 0 unless a part fails.
"""

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks import daily, features, flow, measure, sizes, skew
from benchmarks.generator import Shop

# Parts with options of their own, where they are here: python -m benchmarks.NAME --help
OTHERS = [
    name
    for name in ("robots", "validation", "equality", "fuzz", "training", "encoding", "planted", "segments", "publishing", "bi")
    if (Path(__file__).parent / f"{name}.py").exists()
]
PARTS = ("features", "daily", "skew", "sizes", "flow", *OTHERS)


def main(argv: list[str] | None = None) -> int:
    """Run the parts and print the table."""
    chosen = _parser().parse_args(argv)
    shop = Shop(chosen.events, chosen.days, chosen.customers, chosen.seed, signed_out=chosen.signed_out)
    next_day = chosen.next_day_events
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        work = chosen.work or Path(folder)
        parts = {
            "features": partial(features.run, shop, work),
            "daily": partial(daily.run, shop, work, next_day, chosen.repeat),
            "skew": partial(skew.run, shop, work, next_day),
            "sizes": partial(sizes.run, shop, work, next_day, chosen.plot),
            "flow": flow.run,
            **{name: partial(_other, name) for name in OTHERS},
        }
        failed = []
        for name in chosen.parts or PARTS:
            measure.say(f"\n== {name}")
            try:
                parts[name]()
            except RuntimeError as error:
                measure.say(f"{name} failed: {error}")
                failed.append(name)
    measure.say("\n" + "\n".join(measure.RESULTS))
    if failed:
        measure.say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "parts", nargs="*", type=_part, metavar="PART", help=f"some of {', '.join(PARTS)}; all, where none is named"
    )
    parser.add_argument("--events", type=int, default=30_000_000, help="of the whole history")
    parser.add_argument("--days", type=int, default=365, help="of the history")
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signed-out", type=float, default=0.0, help="share of customers' sessions without a sign-in")
    parser.add_argument("--next-day-events", type=int, default=80_000)
    parser.add_argument("--repeat", type=int, default=3, help="runs of the next day in `daily`, of which the median counts")
    parser.add_argument("--work", type=Path, help="folder to keep the generated shops and lakes in, for the next run")
    parser.add_argument("--plot", type=Path, default=Path("var/cost_by_size.png"), help="where `sizes` draws")
    return parser


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"'{name}' is not one of {', '.join(PARTS)}")
    return name


def _other(name: str) -> None:
    """A part with a command line of its own, run with its defaults."""
    python = measure.ROOT / ".venv/train/bin/python" if name == "training" else sys.executable
    process = subprocess.Popen([python, "-m", f"benchmarks.{name}"], cwd=measure.ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        measure.say(line.rstrip("\n"))
        if line.split()[-1:] in (["met"], ["MISSED"]):
            measure.RESULTS.append(line.rstrip())
    if code := process.wait():
        raise RuntimeError(f"it ended with exit code {code}")


if __name__ == "__main__":
    sys.exit(main())
