"""segments.history: intervals that never overlap, the same by a step forward as made anew."""

import random
from datetime import timedelta

from jobs.segments import assignments, history
from tests.jobs.conftest import FIRST, LAST, SECOND

SCHEMA = "customer_id STRING, day DATE, segment_id INT, model_version STRING"


def oracle(days):
    """{day: {customer: segment}} -> the intervals, told day by day."""
    closed, is_open = [], {}
    for day in sorted(days):
        for customer in set(is_open) | set(days[day]):
            now, before = days[day].get(customer), is_open.get(customer)
            if before and before[1] != now:
                closed.append((*is_open.pop(customer)[:3], day, before[3]))
            if now is not None and customer not in is_open:
                is_open[customer] = (customer, now, day, f"v{day.day}")
    return sorted(closed + [(*row[:3], None, row[3]) for row in is_open.values()])


def intervals(frame):
    return sorted(tuple(row) for row in frame.select(*COLUMNS).collect())


COLUMNS = ("customer_id", "segment_id", "valid_from", "valid_to", "model_version")
TYPES = ("STRING", "INT", "DATE", "DATE", "STRING")


def frame(spark, days):
    rows = [(c, day, segment, f"v{day.day}") for day, of_day in days.items() for c, segment in of_day.items()]
    return spark.createDataFrame(rows, SCHEMA)


def test_steps_forward_and_made_anew_agree_on_random_moves_with_gaps_and_reruns(spark):
    chance = random.Random(1)  # noqa: S311
    numbers = sorted(chance.sample(range(20), 4))
    customers = [f"c{i}" for i in range(40)]

    def of_day():
        return {c: chance.choice([0, 1, 1, 1, 2]) for c in customers if chance.random() < 0.85}

    days, stepped = {}, None
    for number in numbers:
        day = FIRST + timedelta(days=number)
        for _ in range(chance.choice([1, 2])):  # a rerun replaces what the first run of the day said
            days[day] = of_day()
            today = frame(spark, {day: days[day]})
            if stepped is None:
                rows = intervals(history.history(today))
            else:
                rows = intervals(stepped.where(f"NOT ({history.since(day)})"))
                rows = sorted(rows + intervals(history.history_after(stepped, today, day)))
            stepped = spark.createDataFrame(rows, ", ".join(f"{c} {t}" for c, t in zip(COLUMNS, TYPES, strict=True)))
        assert rows == oracle(days)

    assert intervals(history.history(frame(spark, days))) == oracle(days)


def test_the_history_of_the_shop_spans_the_day_without_a_refresh(shop):
    loyal, rare, returner = (shop.segment_of(kind, FIRST) for kind in ("loyal", "rare", "returner"))
    stays = {}
    for row in shop.rows(history, "customer_id", "valid_from"):
        stays.setdefault(row["customer_id"], []).append((row["segment_id"], row["valid_from"], row["valid_to"]))

    assert stays["loyal-0"] == [(loyal, FIRST, SECOND), (rare, SECOND, None)]
    assert stays["rare-0"] == [(rare, FIRST, SECOND), (0, SECOND, None)]
    assert stays["loyal-new"] == [(loyal, SECOND, None)]
    assert stays["returner-3"] == [(returner, FIRST, LAST), (0, LAST, None)]
    assert len(stays["nightly-3"]) == 1


def test_a_rerun_of_any_day_gives_the_same_rows(shop):
    before = shop.rows(history, "customer_id", "valid_from")
    for day in (LAST, FIRST):
        assignments.run(shop.lake, shop.settings, day)
        history.run(shop.lake, shop.settings, day)
        assert shop.rows(history, "customer_id", "valid_from") == before
