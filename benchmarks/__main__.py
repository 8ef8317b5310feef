"""`make bench`: measure Shoal and what one would use instead. `python -m benchmarks features --events 1000000`.

Runs all parts, or those that are named, each in processes of its own. Ends with a table: figure, value, target, met or MISSED.
The exit code is 0 unless a part fails.
"""

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks import daily, features, flow, measure, sizes, skew
from benchmarks.generator import Shop

# Parts with a command line of their own, as far as their files are here: python -m benchmarks.NAME --help
SEPARATE_PARTS = [
    name
    for name in (
        "robots",
        "validation",
        "equality",
        "fuzz",
        "training",
        "encoding",
        "sequences",
        "planted",
        "planted_groups",
        "short_texts",
        "segments",
        "publishing",
        "recommendations",
        "tastes",
        "bi",
        "serve",
        "texts",
    )
    if (Path(__file__).parent / f"{name}.py").exists()
]
PARTS = ("features", "daily", "skew", "sizes", "flow", *SEPARATE_PARTS)


def main(argv: list[str] | None = None) -> int:
    """Run the parts and print the table; returns the exit code."""
    arguments = _parser().parse_args(argv)
    shop = Shop(arguments.events, arguments.days, arguments.customers, arguments.seed, signed_out=arguments.signed_out)
    next_day_events = arguments.next_day_events
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as temporary:
        folder = arguments.work or Path(temporary)
        parts = {
            "features": partial(features.run, shop, folder),
            "daily": partial(daily.run, shop, folder, next_day_events, arguments.repeat),
            "skew": partial(skew.run, shop, folder, next_day_events),
            "sizes": partial(sizes.run, shop, folder, next_day_events, arguments.plot),
            "flow": flow.run,
            **{name: partial(_run_separately, name) for name in SEPARATE_PARTS},
        }
        failed = []
        for name in arguments.parts or PARTS:
            measure.log(f"\n== {name}")
            try:
                parts[name]()
            except RuntimeError as error:
                measure.log(f"{name} failed: {error}")
                failed.append(name)
    measure.log("\n" + "\n".join(measure.RESULTS))
    if failed:
        measure.log(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART", help=f"some of {', '.join(PARTS)}; default: all")
    parser.add_argument("--events", type=int, default=30_000_000, help="events of the whole history")
    parser.add_argument("--days", type=int, default=365, help="days of the history")
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signed-out", type=float, default=0.0, help="share of customers' sessions without a sign-in, 0 to 1")
    parser.add_argument("--next-day-events", type=int, default=80_000)
    parser.add_argument("--repeat", type=int, default=3, help="runs of the next day in `daily`; the median counts")
    parser.add_argument("--work", type=Path, help="folder that keeps the generated shops and lakes for the next run")
    parser.add_argument("--plot", type=Path, default=Path("var/cost_by_size.png"), help="file that `sizes` draws")
    return parser


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"'{name}' is not one of {', '.join(PARTS)}")
    return name


def _run_separately(name: str) -> None:
    """Run a part by its own command line with its defaults.

    Raises RuntimeError where it fails.
    """
    python = measure.ROOT / ".venv/train/bin/python" if name == "training" else sys.executable
    process = subprocess.Popen([python, "-m", f"benchmarks.{name}"], cwd=measure.ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        measure.log(line.rstrip("\n"))
        if line.split()[-1:] in (["met"], ["MISSED"]):
            measure.RESULTS.append(line.rstrip())
    if code := process.wait():
        raise RuntimeError(f"it ended with exit code {code}")


if __name__ == "__main__":
    sys.exit(main())
