"""Measure how well the robot rules find the robots of a sample shop: precision and recall over visitors, by rule and in all.

The shop contains robots of every kind and people who look like them. The folder truth/ says who is what, and no job reads it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Set
from datetime import date, timedelta
from pathlib import Path

from benchmarks.measure import ROOT
from jobs.sample import writer
from jobs.storage.delta import read_arrow

CUSTOMERS, DAYS, SEED = 3000, 24, 11
LAST = date(2026, 3, 31)
LEAST_PRECISION, LEAST_RECALL = 0.95, 0.90  # of all rules together


def main() -> int:
    """Make the shop, land and clean it, print the table; returns 1 where a step fails or a target is missed."""
    with tempfile.TemporaryDirectory() as folder:
        writer.write_shop(Path(folder) / "input", CUSTOMERS, DAYS, SEED, LAST)
        truth = json.loads((Path(folder) / "input/truth/truth.json").read_text())
        roots = {f"SHOAL_{name.upper()}": f"{folder}/{name}" for name in ("lake", "models", "reports", "input")}
        environment = {**os.environ, **roots, "SHOAL_SOURCE": "sample", "SHOAL_SECRET": "a made-up shop has none"}
        first = LAST - timedelta(days=DAYS - 1)
        for step in (["land", "--day", str(LAST)], ["clean", "--from", str(first), "--to", str(LAST)]):
            if subprocess.run([sys.executable, "-m", "jobs", *step], cwd=ROOT, env=environment, check=False).returncode:
                return 1
        events = read_arrow(roots["SHOAL_LAKE"], "clean.events", ["visitor_id", "bot_rule"])
    flagged = defaultdict(set)
    for row in events.group_by(["visitor_id", "bot_rule"]).aggregate([]).to_pylist():
        if row["bot_rule"]:
            flagged[row["bot_rule"]].add(row["visitor_id"])
    planted = {rule: set(ids) for rule, ids in truth["robots"].items()}
    table = score_rules(planted, flagged)
    print(f"\nrobots among the visitors of a sample shop, {CUSTOMERS:,} customers, {DAYS} days")
    print(f"{'rule':<18}{'planted':>9}{'flagged':>9}{'precision':>11}{'recall':>9}")
    for rule, (n_planted, n_flagged, precision, recall) in table.items():
        print(f"{rule:<18}{n_planted:>9,}{n_flagged:>9,}{precision:>11.3f}{recall:>9.3f}")
    all_flagged = set().union(*flagged.values())
    people = (f"{kind} {len(all_flagged & set(ids))} of {len(ids):,}" for kind, ids in truth["people"].items())
    print(f"people who look like robots and were flagged: {', '.join(people)}")
    *_, precision, recall = table["all"]
    figures = (("precision", precision, LEAST_PRECISION), ("recall", recall, LEAST_RECALL))
    for name, value, target in figures:
        verdict = "met" if value >= target else "MISSED"
        print(f"{f'robots of the sample shop, {name} over visitors':<84}{value:>9.3f}{'':<5}{f'>= {target}':>15}  {verdict}")
    return int(any(value < target for _, value, target in figures))


def score_rules(planted: Mapping[str, Set[str]], flagged: Mapping[str, Set[str]]) -> dict[str, tuple[int, int, float, float]]:
    """Return (planted, flagged, precision, recall) by rule and for `all`.

    Precision is the share of the visitors flagged by a rule that are robots of any kind. Recall is the share of the robots of a
    kind that any rule flagged.

    >>> score_rules({"rate": {"a", "b"}, "even_pauses": {"c"}}, {"rate": {"a", "c", "x"}})["rate"]
    (2, 3, 0.6666666666666666, 0.5)
    """
    robots, all_flagged = set().union(*planted.values()), set().union(*flagged.values())
    kinds = {rule: (planted.get(rule, set()), flagged.get(rule, set())) for rule in sorted({*planted, *flagged})}
    kinds["all"] = robots, all_flagged
    return {
        rule: (
            len(robots_of_kind),
            len(visitors),
            _share(visitors & robots, visitors),
            _share(robots_of_kind & all_flagged, robots_of_kind),
        )
        for rule, (robots_of_kind, visitors) in kinds.items()
    }


def _share(part: Set[str], whole: Set[str]) -> float:
    return len(part) / len(whole) if whole else 1.0


if __name__ == "__main__":
    sys.exit(main())
