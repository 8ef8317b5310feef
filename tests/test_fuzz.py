"""Damaged files are read or refused in one line, and every wild row is accounted for. benchmarks.fuzz runs more cases."""

from benchmarks import fuzz
from jobs.clean import rules

FILES, ROWS = 120, 60  # rows of each of four tables


def test_a_damaged_file_is_read_to_its_last_row_or_refused_in_one_line(tmp_path):
    n_refused = sum(fuzz.is_file_refused(tmp_path, seed) for seed in range(FILES))
    assert 0 < n_refused < FILES


def test_a_wild_row_is_kept_refused_or_repeated_by_a_declared_rule(lake, tmp_path):
    counts = fuzz.reconcile_shop(lake, tmp_path / "wild", ROWS, seed=1)
    for table in ("events", "orders", "products", "customers"):
        declared = {rule.name for rule in rules.RULES if rule.table == table}
        rejects = lake.read_small_table(f"clean.{table}_rejects", ["rules"])
        assert {rule for row in rejects for rule in row["rules"]} <= declared
        assert counts[f"clean.{table}"][1] + len(rejects) == ROWS
        assert 0 < len(rejects) <= ROWS
    links = lake.read_small_table("clean.identities", ["rule"])
    assert {row["rule"] for row in links} <= rules.rule_names(rules.LINKED)
