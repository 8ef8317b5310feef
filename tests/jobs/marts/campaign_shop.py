"""A shop with a campaign on one segment or two, written as the tables that marts.effects reads."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.config.settings import Settings, load_settings
from jobs.scores import holdouts
from jobs.scores._inputs import ASSIGNMENTS
from jobs.segments import definitions
from jobs.storage.lake import Lake
from jobs.storage.table import Table

FIRST, LAST = date(2024, 6, 1), date(2024, 6, 20)
EVE = FIRST - timedelta(days=1)
KEY = "a key of the tests alone"
FEATURES = Table(
    "features.customers", "What is known of customers.", "customer_id STRING, day DATE, vector ARRAY<FLOAT>", partition="day"
)
DAYS = Table(
    "features.customer_days",
    "What customers did.",
    """customer_id STRING, day DATE, identified_on DATE, known_until DATE, orders BIGINT, sessions BIGINT, net DECIMAL(18,4)""",
    partition="day",
)
FOREVER = date(9999, 12, 31)
NAMES = {1: "Loyal", 2: "Rare"}
CAMPAIGN = f"""
name = "spring"
first_day = {FIRST}
last_day = {LAST}
metric = "orders"
smallest_effect = 0.3
holdout = 0.3
pre_days = 40
"""


@dataclass
class Shop:
    lake: Lake
    settings: Settings
    n: int

    @property
    def ids(self) -> list[str]:
        return [f"c{number:05}" for number in range(self.n)]

    def declare(self, text: str, name: str = "spring") -> None:
        Path(self.settings.campaigns, f"{name}.toml").write_text(text)

    def held_out(self, name: str = "spring") -> np.ndarray:
        """Return who is held out, in the order of the ids."""
        rows = {r["customer_id"]: r["holdout"] for r in self.lake.read_small_table(holdouts.TABLE) if r["campaign"] == name}
        return np.array([rows[customer] for customer in self.ids])

    def know(self, day: date, ids: list[str] | None = None) -> None:
        """Write who is known on a day, with a vector of two features: is the number of a customer even, and chance."""
        ids = self.ids if ids is None else ids
        noise = np.random.default_rng(5).normal(size=len(ids))
        rows = [
            {"customer_id": c, "day": day, "vector": [float(int(c[1:]) % 2), z], "segment_id": 1 + int(c[1:]) % 2}
            for c, z in zip(ids, noise, strict=True)
        ]
        for table in (FEATURES, ASSIGNMENTS):
            of_table = [{name: row[name] for name in table.columns} for row in rows]
            self.lake.replace_rows(table, pa.Table.from_pylist(of_table, table.arrow_schema), [day])
        versions = pa.Table.from_pylist(
            [{"customer_id": c, "day": day, "segment_id": 1 + int(c[1:]) % 2, "model_version": "v1"} for c in ids]
        )
        self.lake.replace_rows(ASSIGNED, versions.cast(ASSIGNED.arrow_schema), [day])

    def act(self, orders: np.ndarray, days: list[date], identified_on: date | None = None) -> None:
        """Write the orders of each customer (days x n), each of 10 and with a session."""
        rows = [
            {"customer_id": customer, "day": day, "identified_on": identified_on or day, "known_until": FOREVER, "orders": int(n),
             "sessions": int(n), "net": Decimal(10 * int(n))}
            for day, of_day in zip(days, orders, strict=True)
            for customer, n in zip(self.ids, of_day, strict=True) if n
        ]  # fmt: skip
        self.lake.replace_rows(DAYS, pa.Table.from_pylist(rows, DAYS.arrow_schema), days)


ASSIGNED = Table(
    "segments.assignments",
    "The segments of a day.",
    "customer_id STRING, day DATE, segment_id INT, model_version STRING",
    partition="day",
)


def list_days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def write_shop(folder: Path, n: int = 1200) -> Shop:
    """Write n customers who order at random on the days before a campaign, and the names of their two segments."""
    (folder / "campaigns").mkdir()
    settings = replace(load_settings({}), lake=str(folder / "lake"), campaigns=str(folder / "campaigns"))
    shop = Shop(Lake(None, settings.lake), settings, n)
    before = list_days(FIRST - timedelta(days=60), EVE)
    shop.act(draw_orders(n, len(before), seed=1), before)
    shop.know(EVE)
    rows = [{"model_version": "v1", "segment_id": i, "name": name} for i, name in NAMES.items()]
    shop.lake.replace_rows(definitions.TABLE, pa.Table.from_pylist(rows, definitions.TABLE.arrow_schema))
    return shop


def draw_orders(n: int, n_days: int, seed: int) -> np.ndarray:
    """Return the orders of n customers on days (days x n); the rate of a customer is the same in every draw."""
    rates = np.random.default_rng(0).gamma(2.0, 0.03, n)
    return np.random.default_rng(seed).poisson(rates, (n_days, n))
