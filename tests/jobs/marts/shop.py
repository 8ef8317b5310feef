"""A small shop whose days are segmented by its planted types, written and published without an engine."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import catalogue, representations
from jobs.config.settings import Settings
from jobs.encoded import customers as encoded
from jobs.marts import customer_segments, effects, segment_changes, segment_demand, segment_moves, segment_profiles
from jobs.segments import assignments, calibration, definitions, history
from jobs.storage.delta import read_arrow
from jobs.storage.lake import Lake
from tests.jobs import planted

PUBLISH = (customer_segments, segment_profiles, segment_changes, segment_moves, segment_demand, effects)
SEGMENTS = {"loyal": 1, "returner": 2, "nightly": 3, "rare": 4, "bulk": 5}
MARGINS, SHARES = [0.0, 0.1], [0.5, 1.0]  # of refits: who is not near a border is sure

Days = dict[date, tuple[str, list[planted.Customer]]]


@dataclass
class Shop:
    lake: Lake
    settings: Settings

    def run(self, run: Any, *arguments: Any) -> None:
        """Call a function of a mart with the lake, the settings and `arguments`, the planted features and encoder."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(catalogue, "FEATURES", planted.CATALOGUE)
            patch.setattr(representations, "load_encoder", planted.load_encoder)
            run(self.lake, self.settings, *arguments)

    def rows(self, module: Any, *order: str) -> list[dict]:
        """Return all rows of a table, sorted by the columns of `order`, null first."""
        rows = read_arrow(self.lake.root, module.TABLE.name).to_pylist()
        return sorted(rows, key=lambda row: [(row[name] is not None, row[name]) for name in order])

    def segment_of(self, kind: str, day: date) -> int:
        """Return the one segment of a planted type on a day; the customers who move are left out."""
        rows = [row for row in read_arrow(self.lake.root, assignments.TABLE.name, day=day).to_pylist()]
        moved = ("loyal-0", "rare-0")
        (segment_id,) = {
            row["segment_id"] for row in rows if row["customer_id"].startswith(f"{kind}-") and row["customer_id"] not in moved
        }
        return segment_id


def write_shop(lake: Lake, days: Days) -> Shop:
    """Write the features and the segments of the days; each has a model version and its customers."""
    settings = planted.settings(lake)
    fitted_on: dict[str, date] = {}
    for day, (version, customers) in days.items():
        write_features(lake, day, customers)
        write_vectors(lake, day, version, customers)
        if version not in fitted_on:
            fitted_on[version] = day
            planted.promote(settings.models, version, day)
            write_definitions(lake, version, day, customers)
        write_assignments(lake, day, assign(lake, day, version, customers))
    write_history(lake)
    return Shop(lake, settings)


def write_features(lake: Lake, day: date, customers: list[planted.Customer]) -> None:
    rows = [
        {
            "customer_id": c.customer_id, "day": day, "is_active": bool(c.values), "country": c.country,
            "recency_days": c.recency_days, "orders_365d": round(c.values[0]) if c.values else 0,
            "net_365d": Decimal(10 * round(c.values[0])) if c.values else Decimal(0), "tenure_days": c.tenure_days,
            "vector": c.values or (0.0, None, None),
        }
        for c in customers
    ]  # fmt: skip
    replace_days(lake, planted.FEATURES, rows, [day])


def write_vectors(lake: Lake, day: date, version: str, customers: list[planted.Customer]) -> None:
    rows = [
        {"customer_id": c.customer_id, "day": day, "model_version": version, "vector": planted.vector(c, version),
         "is_active": bool(c.values), "representation": "learned"}
        for c in customers
    ]  # fmt: skip
    replace_days(lake, encoded.TABLE, rows, [day])


def write_definitions(lake: Lake, version: str, day: date, customers: list[planted.Customer]) -> None:
    """Make each planted type of active customers a segment, named in capitals, with the mean of its vectors as its centre."""
    rows = [make_definition(version, 0, "Dormant", None)]
    for kind, segment_id in SEGMENTS.items():
        vectors = [planted.vector(c, version) for c in customers if c.values and c.customer_id.startswith(kind)]
        if vectors:
            rows.append(make_definition(version, segment_id, kind.upper(), np.mean(vectors, axis=0).tolist()))
    add_rows(lake, definitions.TABLE, rows)
    curves = [
        {"segment_id": row["segment_id"], "model_version": version, "day": day, "margins": MARGINS, "shares": SHARES}
        for row in rows[1:]
    ]
    add_rows(lake, calibration.TABLE, curves)


def make_definition(version: str, segment_id: int, name: str, centre: list[float] | None) -> dict:
    return {"model_version": version, "segment_id": segment_id, "name": name, "center": centre}


def assign(lake: Lake, day: date, version: str, customers: list[planted.Customer]) -> list[dict]:
    """Return the rows of segments.assignments: the nearest centre, and 0 for dormant customers."""
    centres = {
        row["segment_id"]: row["center"] for row in lake.read_small_table(definitions.TABLE) if row["model_version"] == version
    }
    del centres[0]
    ids = sorted(centres)
    rows = []
    for c in customers:
        row = {"customer_id": c.customer_id, "day": day, "segment_id": 0, "is_outlier": False, "model_version": version}
        if c.values:
            distances = np.linalg.norm(np.array([centres[i] for i in ids]) - planted.vector(c, version), axis=1)
            nearest, second = np.argsort(distances)[:2]
            row |= {"segment_id": ids[nearest], "runner_up_id": ids[second], "distance": distances[nearest]}
            row["margin"] = 1 - distances[nearest] / distances[second]
        rows.append(row)
    return rows


def write_assignments(lake: Lake, day: date, rows: list[dict]) -> None:
    replace_days(lake, assignments.TABLE, rows, [day])


def write_history(lake: Lake) -> None:
    """Write the intervals of all days of segments.assignments, by the rule of segments.history."""
    days = lake.days(assignments.TABLE.name)
    rows = lake.read_small_table(assignments.TABLE)
    segments = {day: {row["customer_id"]: row["segment_id"] for row in rows if row["day"] == day} for day in days}
    intervals: list[dict] = []
    current: dict[str, dict] = {}
    for before, day in pairwise([None, *days]):
        previous = segments.get(before, {})
        for customer in [c for c, i in previous.items() if segments[day].get(c) != i]:
            current.pop(customer)["valid_to"] = day
        for customer, segment_id in segments[day].items():
            if previous.get(customer) != segment_id:
                current[customer] = {"customer_id": customer, "segment_id": segment_id, "valid_from": day, "model_version": "v1",
                                     "previous_segment_id": previous.get(customer)}  # fmt: skip
                intervals.append(current[customer])
    lake.replace_rows(history.TABLE, to_arrow(history.TABLE, intervals))


def publish_tables(shop: Shop, modules: tuple, day: date) -> None:
    for module in modules:
        shop.run(module.run, day)


def replace_days(lake: Lake, table, rows: list[dict], days: list[date]) -> None:
    lake.replace_rows(table, to_arrow(table, rows), days)


def add_rows(lake: Lake, table, rows: list[dict]) -> None:
    lake.replace_rows(table, pa.concat_tables([lake.read_arrow(table), to_arrow(table, rows)]))


def to_arrow(table, rows: list[dict]) -> pa.Table:
    """Return rows as a table; what they lack is null."""
    return pa.Table.from_pylist(rows, table.arrow_schema)
