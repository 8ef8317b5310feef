"""quality.quarantine: the rows that fail an expectation, as long as they do."""

import json
from decimal import Decimal

import pytest

from jobs.errors import UserError
from jobs.quality import pipeline, profiles, quarantine
from tests.jobs.quality.rows import BETWEEN, DAY, read_results, write_good_layer, write_table

ONE_ROW = "customer_id, day, identified_on, known_until: a customer has one row a day and day of identification"


def test_bad_rows_are_kept_until_a_rerun_finds_them_good_and_the_rerun_writes_the_same(lake, settings):
    write_good_layer(lake, "features")
    write_table(
        lake,
        "features.customer_days",
        {},
        {"customer_id": "2", "orders": -1},
        {"customer_id": "2", "products": [("mug", Decimal(1))]},
    )
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"a customer has one row a day.*2 of 3 rows unexpected.*\(1 more\).*quality.quarantine"
        ):
            pipeline.run(lake, settings, "features", [DAY])
        bad = lake.read_small_table(quarantine.TABLE)
        assert sorted(sorted(row["expectations"]) for row in bad) == [
            [ONE_ROW],
            [ONE_ROW, f"orders: {BETWEEN}"],
        ]
        assert {(row["table"], row["day"], row["severity"]) for row in bad} == {("features.customer_days", DAY, "critical")}
        assert sorted(json.loads(row["row"])["orders"] for row in bad) == [-1, 1]
        assert all("products" not in json.loads(row["row"]) for row in bad)
    write_good_layer(lake, "features")
    runs = []
    for _ in range(2):
        pipeline.run(lake, settings, "features", [DAY])
        runs.append((read_results(lake), sorted(map(str, lake.read_small_table(profiles.TABLE)))))
    assert runs[0] == runs[1]
    assert lake.read_small_table(quarantine.TABLE) == []
