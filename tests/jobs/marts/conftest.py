"""Three days of a small shop, segmented by its planted types and published once, for tests that only read the result."""

import pytest

from jobs.storage.lake import Lake
from tests.jobs.conftest import FIRST, LAST, SECOND, list_days
from tests.jobs.marts.shop import PUBLISH, Shop, publish_tables, write_shop


@pytest.fixture(scope="package")
def shop(tmp_path_factory) -> Shop:
    """Day 1, model v1: four types. Day 2: loyal-0 buys rarely, rare-0 is dormant, loyal-new is new. Day 3: no refresh.
    Day 4, model v2: the returners are dormant, and bulk buyers are new."""
    lake = Lake(None, str(tmp_path_factory.mktemp("shop") / "lake"))
    shop = write_shop(lake, list_days())
    for day in (FIRST, SECOND, LAST):
        publish_tables(shop, PUBLISH, day)
    return shop
