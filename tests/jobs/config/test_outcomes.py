"""conf/outcomes.toml: the outcomes of the project, and what is refused."""

from datetime import date

import pytest

from jobs.config.outcomes import load_outcomes
from jobs.config.settings import load_settings
from jobs.errors import UserError

CHURN = '[churn]\nlabel = "no_order"\nwindow_days = 90\nordered_within_days = 90\n'


def test_the_file_of_the_project_declares_four_outcomes():
    outcomes = load_outcomes(load_settings({}).outcomes)
    assert [outcome.name for outcome in outcomes] == ["churn", "next_order", "high_value", "returns"]
    assert outcomes[1].label_days(date(2024, 4, 30)) == [date(2024, 1, 31), date(2024, 3, 1), date(2024, 3, 31)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[churn", "Expected ']'"),
        ("churn = 1", "churn must be a table, such as"),
        (CHURN.replace("[churn]", '["Churn it"]'), "Churn it is no name of an outcome"),
        (CHURN.replace("no_order", "leaves"), "churn.label must be one of no_order, order, top_net, return, table"),
        (CHURN + "top_share = 0.1", "churn.top_share is no key of label no_order"),
        (CHURN.replace("window_days = 90\n", "", 1), "churn.window_days is missing"),
        (CHURN + "seen_within_days = 9", "churn must have one of ordered_within_days and seen_within_days"),
        (CHURN.replace("90", "0"), "churn.window_days = 0 must be at least 1 and at most 365"),
        (CHURN.replace("90", '"90"'), "churn.window_days = '90' must be a whole number"),
        (CHURN.replace("no_order", "table"), "churn.file is missing"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(tmp_path, text, reason):
    path = tmp_path / "outcomes.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_outcomes(str(path))
    assert str(error.value).startswith(f"outcomes: {path}")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
