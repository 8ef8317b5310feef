"""clean.events: every rule as an example, robots by name and by behaviour among them."""

import pytest

from jobs.clean import _ids, rules
from jobs.config.settings import Clean
from jobs.config.source_mapping import COLUMNS
from tests.jobs.clean import kernels, scenarios

LIMITS = Clean()


@pytest.fixture(scope="module")
def outcome():
    """(kept rows, refused rows) by case and the corrected ids, all cases in one call."""
    classified = kernels.classify(scenarios.raw_rows("events", COLUMNS["events"], "event_at"), LIMITS)
    corrections = {row["measure"]: int(row["value"]) for row in classified["corrections"].to_pylist()}
    return scenarios.by_case(classified["kept"]), scenarios.by_case(classified["rejects"]), corrections


@pytest.mark.parametrize("case", scenarios.cases("events"))
def test_events_match_the_example(outcome, case):
    kept, refused, _ = outcome
    scenarios.assert_rows(kept.get(case, []), scenarios.read("events", case, "expected"))
    scenarios.assert_rows(refused.get(case, []), scenarios.read("events", case, "refused"))


def test_corrected_ids_are_counted_by_rule_and_column(outcome):
    *_, corrections = outcome
    assert corrections == {
        "null_word_customer_id": 4, "null_word_visitor_id": 1, "decimal_id_customer_id": 1, "decimal_id_product_id": 1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def robots():
    """(visitor, day, rule) by case, all cases in one call."""
    raw = scenarios.raw_rows("robots", COLUMNS["events"], "event_at")
    flagged = kernels.clean(kernels.classify(raw, LIMITS), LIMITS)["events"]
    return scenarios.by_case(flagged.group_by(["visitor_id", "day", "bot_rule", "is_bot"]).aggregate([]))


@pytest.mark.parametrize("case", scenarios.cases("robots"))
def test_robots_are_flagged_by_their_rule_and_people_are_not(robots, case):
    scenarios.assert_rows(robots[case], scenarios.read("robots", case, "expected"))
    assert all(row["is_bot"] == (row["bot_rule"] is not None) for row in robots[case])


def test_every_rule_of_events_has_an_example(outcome):
    def shown(table, kind, column):
        return {name for case in scenarios.cases(table) for row in scenarios.read(table, case, kind) if (name := row.get(column))}

    examples = {
        rules.REFUSED: shown("events", "refused", "rules"),
        rules.REPEATED: shown("events", "refused", "rules"),
        rules.FLAGGED: shown("robots", "expected", "bot_rule"),
        rules.CORRECTED: {rule for rule in _ids.CORRECTED if any(name.startswith(rule) for name in outcome[2])}
        | ({"clock_skew"} if shown("events", "expected", "clock_skew_seconds") else set()),
    }
    missing = {rule.name for rule in rules.RULES if rule.table == "events" and rule.name not in examples[rule.kind]}
    assert not missing
