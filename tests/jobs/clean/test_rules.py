"""The rules of cleaning: each declared once, each in use, the page made from them."""

import csv
import json
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from jobs.clean import _rows, events, rules
from jobs.config.settings import HOME, Clean
from jobs.quality import suites
from jobs.sample import writer

SOURCES = "".join(path.read_text() for path in (HOME / "jobs" / "clean").glob("*.py") if path.name != "rules.py")


def test_every_rule_is_declared_once_and_explained():
    keys = [(rule.table, rule.name) for rule in rules.RULES]
    assert len(keys) == len(set(keys))
    assert all(rule.meaning for rule in rules.RULES)
    assert {name for rule in rules.RULES for name in rule.settings} <= set(Clean.__dataclass_fields__)


@pytest.mark.parametrize("name", sorted({rule.name for rule in rules.RULES}))
def test_a_declared_rule_is_in_use(name):
    assert f'"{name}"' in SOURCES


def test_the_check_of_bot_rules_knows_every_rule_that_flags_events():
    flagging = {rule.name for rule in rules.RULES if (rule.table, rule.kind) == ("events", rules.FLAGGED)}
    suite = json.loads((suites.SUITES / "clean" / "events.json").read_text())
    checks = [e["kwargs"] for e in suite["expectations"] if e["type"] == "expect_column_values_to_be_in_set"]
    assert [set(check["value_set"]) for check in checks if check["column"] == "bot_rule"] == [flagging]
    comment = next(column.comment for column in events.TABLE.fields if column.name == "bot_rule")
    assert {name for name in flagging if name in comment} == flagging


def test_a_rule_that_is_not_declared_cannot_be_used():
    raw = pa.table({"_extra": pa.nulls(1, pa.map_(pa.string(), pa.string()))})
    with pytest.raises(ValueError, match="does not declare too_cheap"):
        _rows.find_broken_rules(raw, pl.DataFrame({"row": [1]}), {"no_price": pl.lit(True), "too_cheap": pl.lit(True)})


def test_what_examples_and_the_sample_shop_call_a_rule_is_one(tmp_path):
    writer.write_shop(tmp_path, customers=60, days=6, seed=3, last_day=date(2026, 3, 31))
    files = [*(Path(__file__).parent / "scenarios").rglob("*_refused.csv"), tmp_path / "truth" / "defects.csv"]
    used = set()
    for file in files:
        with file.open(newline="") as rows:
            used |= {name for row in csv.DictReader(rows) for name in (row.get("rules") or row["rule"]).split()}
    assert len(used) > 10
    assert used <= {rule.name for rule in rules.RULES}


def test_the_page_is_made_from_the_rules():
    assert (HOME / "docs" / "rules.md").read_text() == rules.as_markdown(), "run: shoal rules > docs/rules.md"
