"""segments.history: intervals never overlap, and updates in any order of days give what one pass over the days gives."""

import shutil
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jobs.engine.tasks import split_by_key
from jobs.segments import assignments, history
from jobs.storage.rows import Rows
from tests.jobs import planted
from tests.jobs.conftest import FIRST, LAST, SECOND

COLUMNS = ("customer_id", "day", "segment_id", "model_version")
CUSTOMERS = 25


def expected_intervals(days):
    """{day: ({customer: segment}, model)} -> the intervals, in one pass over the days."""
    closed, is_open = [], {}
    for day in sorted(days):
        of_day, model = days[day]
        for customer in set(is_open) | set(of_day):
            now, before = of_day.get(customer), is_open.get(customer)
            if before and before[1] != now:
                closed.append((*is_open.pop(customer)[:3], day, *before[4:]))
            if now is not None and customer not in is_open:
                is_open[customer] = (customer, now, day, None, model, before[1] if before else None)
    return sorted(closed + list(is_open.values()), key=str)


def list_intervals(rows):
    return sorted((tuple(row.values()) for row in rows.select(history.TABLE.columns).to_pylist()), key=str)


def make_assignments(days):
    rows = [
        {"customer_id": c, "day": day, "segment_id": segment, "model_version": model}
        for day, (of_day, model) in days.items()
        for c, segment in of_day.items()
    ]
    return pa.Table.from_pylist(rows, pa.schema([assignments.TABLE.arrow_schema.field(name) for name in COLUMNS]))


def apply_writes(writes):
    """Yield, after each write of (day number, {customer: segment}, model), the known days so far and the updated intervals."""
    days, rows = {}, []
    for number, of_day, model in writes:
        day = FIRST + timedelta(days=number)
        days[day] = (of_day, model)
        next_day = min((later for later in days if later > day), default=None)
        partitions = history.affected_partitions({row[3] for row in rows}, day)
        stored = [row for row in rows if row[3] in partitions]
        before = [dict(zip(history.TABLE.columns, row, strict=True)) for row in stored]
        tables = {
            "history": pa.Table.from_pylist(before, history.TABLE.arrow_schema),
            "assignments": make_assignments({day: days[day]}),
        }
        update = history.update_history(tables, day, next_day, days[next_day][1] if next_day else None)["history"]
        assert history.affected_partitions(update["valid_to"].to_pylist(), day) == set(update["valid_to"].to_pylist())
        rows = sorted([row for row in rows if row not in stored] + list_intervals(update), key=str)
        yield days, rows


SEGMENTS = st.lists(st.sampled_from([None, 0, 1, 1, 2]), min_size=CUSTOMERS, max_size=CUSTOMERS)
OF_DAY = SEGMENTS.map(lambda segments: {f"c{i}": segment for i, segment in enumerate(segments) if segment is not None})
WRITES = st.lists(st.tuples(st.integers(0, 9), OF_DAY, st.sampled_from(["v1", "v2"])), min_size=5, max_size=7)


@settings(max_examples=50, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), derandomize=True)
@given(writes=WRITES)
def test_days_written_in_any_order_and_again_give_what_one_pass_gives(writes):
    for days, rows in apply_writes(writes):
        assert rows == expected_intervals(days)
    built = history.build_history({"assignments": make_assignments(days)}, list(days))["history"]
    assert list_intervals(built) == rows


# Writes of (day number, segment or None), and the resulting intervals of (segment, from, to, model, previous segment).
CASES = {
    "a missing day lies within the interval": ([(0, 1), (2, 1)], [(1, 0, None, "v0", None)]),
    "a missing day that comes late and differs splits the interval": (
        [(0, 1), (2, 1), (1, 2)], [(1, 0, 1, "v0", None), (2, 1, 2, "v1", 1), (1, 2, None, "v2", 2)],
    ),
    "a day that is run again joins what it had split": ([(0, 1), (1, 2), (2, 1), (1, 1)], [(1, 0, None, "v0", None)]),
    "a customer who comes back begins a new interval, even in the same segment": (
        [(0, 1), (1, None), (2, 1)], [(1, 0, 1, "v0", None), (1, 2, None, "v2", None)],
    ),
    "a day before all others adds an interval before them": ([(1, 1), (0, 2)], [(2, 0, 1, "v0", None), (1, 1, None, "v1", 2)]),
    "a day run again has its last model": ([(0, 1), (1, 2), ("1b", 2)], [(1, 0, 1, "v0", None), (2, 1, None, "v1b", 1)]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_hand_made_cases(case):
    writes, expected = CASES[case]
    numbered = [(int(str(name)[0]), {} if segment is None else {"c": segment}, f"v{name}") for name, segment in writes]
    *_, (_, rows) = apply_writes(numbered)
    number_of = {FIRST + timedelta(days=number): number for number in range(3)} | {None: None}
    assert sorted((s, number_of[f], number_of[t], m, p) for _, s, f, t, m, p in rows) == sorted(expected)


def write(lake, number, segments, model):
    """Write the assignments of a day and the history, and return the day as make_assignments() takes it."""
    day = FIRST + timedelta(days=number)
    written = {day: ({f"c{i}": segment for i, segment in enumerate(segments)}, model)}
    planted.replace_days(lake, assignments.TABLE, make_assignments(written).to_pylist(), [day])
    history.run(lake, planted.settings(lake), day)
    return written


def test_in_the_lake_a_late_day_and_a_rerun_are_updates(lake, monkeypatch):
    days = write(lake, 0, [1, 2], "v1")
    monkeypatch.setattr(history, "build_history", None)

    for number, segments, model in ((4, [1, 1, 3], "v1"), (8, [2, 1, 3], "v1"), (2, [1, 2, 3], "v2"), (4, [2, 2], "v2")):
        days |= write(lake, number, segments, model)

    assert list_intervals(lake.read_arrow(history.TABLE)) == expected_intervals(days)


def test_customers_in_several_buckets_get_the_same_intervals():
    *_, (_, rows) = apply_writes([(0, {f"c{n}": n % 3 for n in range(9)}, "v1"), (2, {f"c{n}": n % 2 for n in range(9)}, "v1")])
    history_rows = pa.Table.from_pylist(
        [dict(zip(history.TABLE.columns, row, strict=True)) for row in rows], history.TABLE.arrow_schema
    )
    tables = {"history": history_rows, "assignments": make_assignments({FIRST: ({f"c{n}": 1 for n in range(9)}, "v2")})}
    update = partial(history.update_history, day=FIRST + timedelta(days=1), next_day=FIRST + timedelta(days=2), next_version="v1")
    parts = {name: split_by_key(Rows(history.TABLE, "customer_id"), table, 3) for name, table in tables.items()}
    buckets = [update({name: parts[name][bucket] for name in parts})["history"] for bucket in range(3)]

    assert list_intervals(pa.concat_tables(buckets)) == list_intervals(update(tables)["history"])
    assert min(bucket.num_rows for bucket in buckets) > 0


def test_an_old_table_without_previous_segment_id_is_built_again_once(lake):
    write(lake, 0, [1], "v1")
    write(lake, 1, [2], "v1")
    expected = list_intervals(lake.read_arrow(history.TABLE))
    names = [name for name in history.TABLE.columns if name != "previous_segment_id"]
    old = replace(history.TABLE, name="segments.old", schema=history.SCHEMA.rpartition(",")[0])
    lake.replace_rows(old, lake.read_arrow(history.TABLE).select(names))
    shutil.rmtree(lake.path(history.TABLE.name))
    shutil.move(lake.path(old.name), lake.path(history.TABLE.name))
    version = lake.version(assignments.TABLE.name)
    lake.set_property(replace(old, name=history.TABLE.name), history.SOURCE_PROPERTY, str(version))

    history.run(lake, planted.settings(lake), FIRST + timedelta(days=1))

    assert list_intervals(lake.read_arrow(history.TABLE)) == expected


def test_the_history_of_the_shop_spans_the_day_without_a_refresh(shop):
    loyal, rare, returner = (shop.segment_of(kind, FIRST) for kind in ("loyal", "rare", "returner"))
    intervals = {}
    for row in shop.rows(history, "customer_id", "valid_from"):
        intervals.setdefault(row["customer_id"], []).append((row["segment_id"], row["valid_from"], row["valid_to"]))

    assert intervals["loyal-0"] == [(loyal, FIRST, SECOND), (rare, SECOND, None)]
    assert intervals["rare-0"] == [(rare, FIRST, SECOND), (0, SECOND, None)]
    assert intervals["loyal-new"] == [(loyal, SECOND, None)]
    assert intervals["returner-3"] == [(returner, FIRST, LAST), (0, LAST, None)]
    assert len(intervals["nightly-3"]) == 1


def test_a_rerun_of_any_day_gives_the_same_rows(shop):
    before = shop.rows(history, "customer_id", "valid_from")
    for day in (LAST, FIRST):
        assignments.run(shop.lake, shop.settings, day)
        history.run(shop.lake, shop.settings, day)
        assert shop.rows(history, "customer_id", "valid_from") == before
