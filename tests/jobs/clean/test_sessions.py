"""clean.sessions: the rules as examples, and the same sessions in whatever order the days are cleaned."""

from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from jobs.clean import events, sessions
from jobs.config.settings import Clean
from jobs.config.source_mapping import COLUMNS
from tests.jobs.clean import event_days, kernels, scenarios

ONE_HOUR_AT_MOST = Clean(session_max_hours=1)


@pytest.fixture(scope="module")
def by_case():
    raw = scenarios.raw_rows("sessions", COLUMNS["events"], "event_at")
    placed = kernels.clean(kernels.classify(raw, Clean()), ONE_HOUR_AT_MOST)["events"]
    began = frozenset(placed["session_started_at"].cast(pa.date32()).to_pylist())
    return scenarios.by_case(sessions.summarize_sessions({"events": placed}, began)["sessions"])


@pytest.mark.parametrize("case", scenarios.cases("sessions"))
def test_sessions_match_the_example(by_case, case):
    scenarios.assert_rows(by_case.get(case, []), scenarios.read("sessions", case, "expected"))


def test_days_cleaned_in_another_order_have_the_same_sessions(lake):
    """A visitor stays for three days, in sessions of up to two; the day on which it came is cleaned last."""
    limits = Clean(session_max_hours=48)
    first = datetime(2024, 3, 1, 0, 10)  # noqa: DTZ001
    moments = [("stays", first + timedelta(minutes=20 * n)) for n in range(151)]
    moments += [("comes", first.replace(hour=23, minute=50)), ("comes", first + timedelta(days=1))]
    rows = [(visitor, str(at), None) for visitor, at in moments]

    event_days.clean_days(lake, [row for row in rows if row[1] >= "2024-03-02"], limits)
    event_days.clean_days(lake, [row for row in rows if row[1] < "2024-03-02"], limits)
    in_portions = [event_days.read_sorted(lake, table) for table in (events.TABLE, sessions.TABLE)]
    event_days.clean_days(lake, rows, limits)
    at_once = [event_days.read_sorted(lake, table) for table in (events.TABLE, sessions.TABLE)]

    of_day = {(str(row["day"]), row["visitor_id"]): (row["n_events"], row["was_cut"]) for row in at_once[1]}
    assert of_day == {
        ("2024-03-01", "stays"): (144, False),
        ("2024-03-03", "stays"): (7, True),
        ("2024-03-01", "comes"): (2, False),
    }
    assert in_portions == at_once
