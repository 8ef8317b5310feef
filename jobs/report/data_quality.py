"""The section on data quality: what became of the source rows, robots, shared devices and failed expectations."""

from collections import Counter, defaultdict
from datetime import date

import pyarrow.compute as pc

from jobs.report._tables import read_rows, read_table


def summarize_reconciliation(rows: list[dict], day: date) -> dict:
    """Return what became of the rows of a day and of all days up to it, by table and by rule.

    `rows` are those of quality.reconciliation. `tables` is (table, counts of "day" and of "all"); `rules` is
    ((table, kind, rule), rows of "day" and of "all"), where kind is rejects or duplicates.
    """
    rows = [row for row in rows if row["day"] <= day]
    tables: dict[str, dict[str, Counter]] = defaultdict(lambda: {"day": Counter(), "all": Counter()})
    rules: dict[tuple[str, str, str], Counter] = defaultdict(Counter)
    for row in rows:
        for scope in ["all"] + ["day"] * (row["day"] == day):
            for name in ("rows_in", "rows_out", "difference"):
                tables[row["table"]][scope][name] += row[name]
            for kind in ("rejects", "duplicates"):
                for rule, n in dict(row[kind] or []).items():
                    tables[row["table"]][scope][kind] += n
                    rules[row["table"], kind, rule][scope] += n
    return {
        "tables": sorted(tables.items()),
        "rules": sorted(rules.items(), key=lambda item: (item[0][0], item[0][1], -item[1]["all"], item[0][2])),
        "n_days": len({row["day"] for row in rows}),
        "measures": {row["table"]: dict(row["measures"]) for row in rows if row["day"] == day and row["measures"]},
    }


def count_robots(root: str, day: date) -> dict | None:
    """Return how many of the day's events are flagged as robots, by rule; None where there are no events."""
    events = read_table(root, "clean.events", ["bot_rule"], day)
    if events is None or events.num_rows == 0:
        return None
    counts = pc.value_counts(events["bot_rule"].drop_null()).to_pylist()
    rules = Counter({row["values"]: row["counts"] for row in counts})
    return {"events": events.num_rows, "share": rules.total() / events.num_rows, "rules": rules.most_common()}


def count_alarms(root: str, day: date) -> Counter:
    """Return how many devices and addresses are shared by too many customers on a day, by rule."""
    return Counter(alarm["rule"] for alarm in read_rows(root, "clean.identity_alarms") if alarm["since"] <= day)


def summarize_checks(results: list[dict]) -> dict:
    """Return how many expectations passed, and those that failed, from the rows of quality.results of a day."""
    failed = [r for r in results if not r["success"]]
    failed.sort(key=lambda r: (r["severity"] != "critical", r["table"], r["column"] or "", r["expectation"]))
    return {
        "n": len(results),
        "passed": len(results) - len(failed),
        "failed": failed,
        "n_tables": len({r["table"] for r in results}),
        "n_unknown": sum(not is_known(r) for r in results),
    }


def is_known(result: dict) -> bool:
    """Return whether an expectation had something to compare with."""
    return result["observed"] != "not known"
