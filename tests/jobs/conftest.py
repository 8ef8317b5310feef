"""Three days of a small shop, segmented once, for all tests that only read the result."""

from dataclasses import dataclass
from datetime import date

import pytest

from jobs import catalogue
from jobs.config.settings import Settings
from jobs.segments import assignments, calibration, candidates, definitions, history, lineage
from jobs.storage.delta import read_arrow
from jobs.storage.lake import Lake
from tests.jobs import planted

SEGMENT = (candidates, definitions, calibration, lineage, assignments, history)
FIRST, SECOND, LAST = date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 4)  # no refresh on the third


@dataclass
class Shop:
    lake: Lake
    settings: Settings

    def run(self, tables, day: date) -> None:
        """Run these tables for a day, with the planted features as the catalogue and scikit-learn in the place of MLlib."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(catalogue, "FEATURES", planted.CATALOGUE)
            patch.setattr(definitions, "_fit_in_spark", planted.fit_centres)
            for table in tables:
                table.run(self.lake, self.settings, day)

    def rows(self, table, *order: str) -> list[dict]:
        """Return all rows of a table, sorted by the columns of `order`, null first."""
        rows = self.lake.read_arrow(table.TABLE).to_pylist()
        return sorted(rows, key=lambda row: [(row[name] is not None, row[name]) for name in order])

    def segment_of(self, kind: str, day: date) -> int:
        """Return the one segment of a planted type on a day; the customers who move are left out."""
        rows = read_arrow(self.lake.root, assignments.TABLE.name, day=day).to_pylist()
        segments = {row["customer_id"]: row["segment_id"] for row in rows if row["customer_id"].startswith(f"{kind}-")}
        (segment_id,) = {segments[name] for name in segments if name not in ("loyal-0", "rare-0")}
        return segment_id


def list_days() -> dict[date, tuple[str, list[planted.Customer]]]:
    """Return the model and the customers of each day."""
    sizes = {"loyal": 40, "returner": 30, "nightly": 50, "rare": 60}
    first = planted.customers(sizes, dormant=20)
    by_id = {customer.customer_id: customer for customer in first}
    by_id["loyal-0"] = planted.Customer("loyal-0", by_id["rare-1"].values)
    by_id["rare-0"] = planted.Customer("rare-0", recency_days=366)
    by_id["loyal-new"] = planted.Customer("loyal-new", by_id["loyal-1"].values, tenure_days=2)
    second = list(by_id.values())
    last = [planted.Customer(c.customer_id, recency_days=366) if "returner" in c.customer_id else c for c in second]
    last += planted.customers({"bulk": 25}, seed=6)
    return {FIRST: ("v1", first), SECOND: ("v1", second), LAST: ("v2", last)}


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Day 1, model v1: four types. Day 2: loyal-0 buys rarely, rare-0 is dormant, loyal-new is new. Day 3: no refresh.
    Day 4, model v2: the returners are dormant, and bulk buyers are new."""
    lake = Lake(None, str(tmp_path_factory.mktemp("shop") / "lake"))
    planted.write(lake, list_days())
    settings = planted.settings(lake)
    planted.promote(settings.models, "v1", FIRST)
    planted.promote(settings.models, "v2", LAST)
    shop = Shop(lake, settings)
    for day in (FIRST, SECOND, LAST):
        shop.run(SEGMENT, day)
    return shop
