"""Customers who crossed a threshold between two days: applied in order, crossings give exactly those who are beyond it."""

import random
from datetime import date, timedelta
from itertools import pairwise

import polars as pl
import pyarrow as pa
import pytest

from jobs.activation._changes import Period, find_crossings, read_crossings
from jobs.config.activation import Threshold
from jobs.storage import commits
from jobs.storage.table import Table

FIRST = date(2024, 3, 1)
DAYS = [FIRST + timedelta(days=n) for n in (0, 1, 3, 4)]
LEAVING = Threshold("leaving", "p_alive", None, above=None, below=0.5)
CHURNING = Threshold("churning", None, "churn", above=0.7, below=None)
VALUES = Table("scores.customer_values", "", "customer_id STRING, day DATE, p_alive DOUBLE", partition="day")
OUTCOMES = Table(
    "scores.customer_outcomes", "", "customer_id STRING, day DATE, outcome STRING, probability DOUBLE", partition="day"
)


def scores(values: dict[str, float]) -> pl.DataFrame:
    return pl.DataFrame({"customer_id": list(values), "value": list(values.values())}, {"customer_id": str, "value": float})


def test_who_is_beyond_at_one_end_only_has_crossed():
    before = scores({"stays": 0.2, "leaves": 0.4, "back": 0.1, "at": 0.5, "gone": 0.3})
    now = scores({"stays": 0.3, "leaves": 0.9, "falls": 0.1, "at": 0.5, "new": 0.49})

    rows = find_crossings(before, now, LEAVING, FIRST).to_pylist()

    assert [(row["customer_id"], row["change"], row["value"]) for row in rows] == [
        ("back", "left", None), ("falls", "reached", 0.1), ("gone", "left", None), ("leaves", "left", 0.9),
        ("new", "reached", 0.49),
    ]  # fmt: skip


def write_values(root, day: date, values: dict[str, float | None]) -> None:
    rows = [{"customer_id": c, "day": day, "p_alive": value} for c, value in values.items()]
    commits.replace_rows(str(root), VALUES, pa.Table.from_pylist(rows, VALUES.arrow_schema), [day])


def test_crossings_of_consecutive_days_give_those_beyond_the_threshold(tmp_path):
    chance, beyond = random.Random(5), set()  # noqa: S311
    drawn = {day: {f"c{n}": chance.random() for n in range(100) if chance.random() < 0.9} for day in DAYS}
    for day, values in drawn.items():
        write_values(tmp_path, day, values)
    for since, day in pairwise([date.min, *DAYS]):
        for row in read_crossings(str(tmp_path), [LEAVING], Period(since, day)).to_pylist():
            assert (row["customer_id"] in beyond) == (row["change"] == "left")
            beyond ^= {row["customer_id"]}
        assert beyond == {c for c, value in drawn[day].items() if value < 0.5}


@pytest.mark.parametrize("without", [{}, {"a": None, "b": None}])
def test_a_day_on_which_nobody_has_the_score_moves_nobody(tmp_path, capsys, without):
    write_values(tmp_path, DAYS[0], {"a": 0.1, "b": 0.9})
    write_values(tmp_path, DAYS[1], without or {"a": 0.1})
    threshold = LEAVING if without else CHURNING

    assert read_crossings(str(tmp_path), [threshold], Period(DAYS[0], DAYS[1])).num_rows == 0
    assert f"nobody has the score of the threshold {threshold.name} on 2024-03-02; it is left out" in capsys.readouterr().out
    if without:
        write_values(tmp_path, DAYS[2], {"a": 0.9, "b": 0.1})
        rows = read_crossings(str(tmp_path), [threshold], Period(DAYS[1], DAYS[2])).to_pylist()
        assert [(row["customer_id"], row["change"]) for row in rows] == [("a", "left"), ("b", "reached")]


def test_the_probability_of_an_outcome_is_a_score_too(tmp_path):
    rows = [(DAYS[0], "churn", 0.1), (DAYS[1], "churn", 0.8), (DAYS[1], "returns", 0.2)]
    rows = [{"customer_id": "a", "day": day, "outcome": outcome, "probability": value} for day, outcome, value in rows]
    commits.replace_rows(str(tmp_path), OUTCOMES, pa.Table.from_pylist(rows, OUTCOMES.arrow_schema), DAYS)

    crossings = read_crossings(str(tmp_path), [CHURNING], Period(DAYS[0], DAYS[1]))

    assert crossings.to_pylist() == [
        {"customer_id": "a", "change": "reached", "day": DAYS[1], "threshold": "churning", "value": 0.8}
    ]
