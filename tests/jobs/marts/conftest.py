"""Three days of a small shop, segmented by its planted types and published once, for tests that only read the result."""

import pytest

from jobs.storage.lake import Lake
from tests.jobs import planted
from tests.jobs.conftest import FIRST, LAST, SECOND
from tests.jobs.marts.shop import PUBLISH, Shop, publish_tables, write_shop


@pytest.fixture(scope="package")
def shop(tmp_path_factory) -> Shop:
    """Day 1, model v1: four types. Day 2: loyal-0 buys rarely, rare-0 is dormant, loyal-new is new. Day 3: no refresh.
    Day 4, model v2: the returners are dormant, and bulk buyers are new."""
    lake = Lake(None, str(tmp_path_factory.mktemp("shop") / "lake"))
    sizes = {"loyal": 40, "returner": 30, "nightly": 50, "rare": 60}
    first = planted.customers(sizes, dormant=20)
    by_id = {customer.customer_id: customer for customer in first}
    by_id["loyal-0"] = planted.Customer("loyal-0", by_id["rare-1"].values)
    by_id["rare-0"] = planted.Customer("rare-0", recency_days=366)
    by_id["loyal-new"] = planted.Customer("loyal-new", by_id["loyal-1"].values, tenure_days=2)
    second = list(by_id.values())
    last = [planted.Customer(c.customer_id, recency_days=366) if "returner" in c.customer_id else c for c in second]
    last += planted.customers({"bulk": 25}, seed=6)
    shop = write_shop(lake, {FIRST: ("v1", first), SECOND: ("v1", second), LAST: ("v2", last)})
    for day in (FIRST, SECOND, LAST):
        publish_tables(shop, PUBLISH, day)
    return shop
