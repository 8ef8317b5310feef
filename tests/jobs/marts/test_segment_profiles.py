"""marts.segment_profiles: sizes and money add up, and effects have intervals."""

import shutil
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from jobs.marts import _members, segment_profiles
from jobs.marts._members import MONEY
from jobs.storage.lake import Lake
from tests.jobs import planted
from tests.jobs.conftest import FIRST
from tests.jobs.marts.shop import Shop, replace_days


def test_sizes_and_money_add_up_to_all_customers(shop):
    rows = {row["segment_id"]: row for row in shop.rows(segment_profiles, "segment_id") if row["day"] == FIRST}
    customers = planted.customers({"loyal": 40, "returner": 30, "nightly": 50, "rare": 60})
    orders = {kind: sum(round(c.values[0]) for c in customers if c.customer_id.startswith(kind)) for kind in planted.TYPES}
    loyal = rows[shop.segment_of("loyal", FIRST)]

    assert sorted(row["n_customers"] for row in rows.values()) == [20, 30, 40, 50, 60]
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    assert sum(row["net_share"] for row in rows.values()) == pytest.approx(1)
    assert loyal["orders_365d"] == orders["loyal"]
    assert loyal["net_365d"] == 10 * orders["loyal"]
    assert loyal["net_365d_per_customer"] == (Decimal(10 * orders["loyal"]) / 40).quantize(Decimal("0.0001"))
    assert loyal["typical_recency_days"] == 1.0
    assert rows[0]["typical_recency_days"] == 410.0
    assert rows[0]["traits"] == []


def test_effects_are_standardised_differences_from_the_average_active_customer(shop):
    rows = {row["segment_id"]: row for row in shop.rows(segment_profiles, "segment_id") if row["day"] == FIRST}
    customers = planted.customers({"loyal": 40, "returner": 30, "nightly": 50, "rare": 60})
    everyone = np.array([c.values for c in customers], dtype=np.float32).astype(float)
    nightly = np.array([c.values for c in customers if "nightly" in c.customer_id], dtype=np.float32).astype(float)

    first = rows[shop.segment_of("nightly", FIRST)]["traits"][0]

    standard_deviation = everyone[:, 2].std()
    effect = (nightly[:, 2].mean() - everyone[:, 2].mean()) / standard_deviation
    half = 1.96 * nightly[:, 2].std() / np.sqrt(50) / standard_deviation
    assert (first["feature"], first["meaning"]) == ("night_share", "Share at night")
    numbers = [first[column] for column in ("typical", "overall", "effect", "low", "high")]
    expected = [nightly[:, 2].mean(), everyone[:, 2].mean(), effect, effect - half, effect + half]
    assert numbers == pytest.approx(expected, abs=2e-6)


def test_a_small_number_of_outliers_is_not_published(shop):
    customers, assignments = read_members(shop)
    is_outlier = [customer in ("loyal-1", "rare-1", "rare-2") for customer in assignments["customer_id"].to_pylist()]
    assignments = assignments.set_column(2, "is_outlier", pa.array(is_outlier))
    loyal, rare, nightly = (shop.segment_of(kind, FIRST) for kind in ("loyal", "rare", "nightly"))

    sums = segment_profiles.sum_segments(customers, assignments)
    rows = segment_profiles.profile_segments(sums, dict.fromkeys(range(6), "a name"), {}, FIRST, min_cell=2)

    n_outliers = {row["segment_id"]: row["n_outliers"] for row in rows}
    assert (n_outliers[loyal], n_outliers[rare], n_outliers[nightly]) == (None, 2, 0)


def test_a_segment_below_min_cell_is_not_published(shop):
    names, sums = dict.fromkeys(range(6), "a name"), segment_profiles.sum_segments(*read_members(shop))

    rows = segment_profiles.profile_segments(sums, names, {}, FIRST, min_cell=40)

    assert sorted(row["n_customers"] for row in rows) == [40, 50, 60]
    assert sum(row["share"] for row in rows) == pytest.approx(150 / 200)


def test_unknown_figures_are_left_out_of_sums_and_medians():
    customers = pa.table(
        {
            "customer_id": ["a", "b", "c", "nowhere"], "recency_days": pa.array([2, None, 5, 9], pa.int64()),
            "orders_365d": pa.array([1, None, 2, 9], pa.int64()), "net_365d": pa.array([Decimal("0.1"), None, None, 9], MONEY),
        }
    )  # fmt: skip
    assignments = pa.table(
        {"customer_id": ["a", "b", "c"], "segment_id": [1, 1, 1], "is_outlier": [False] * 3, "model_version": ["v1"] * 3}
    )

    (sums,) = segment_profiles.sum_segments(customers, assignments)

    assert (sums["n_customers"], sums["orders_365d"], sums["net_365d"]) == (3, 3, Decimal("0.1"))
    assert sums["typical_recency_days"] == 3.5


def read_members(shop) -> tuple[pa.Table, pa.Table]:
    """Return the customers of the first day and their segments."""
    customers = _members.scan_customers(shop.lake, [FIRST], ("customer_id", "recency_days", "orders_365d", "net_365d"))
    columns = ("customer_id", "segment_id", "is_outlier", "model_version")
    return _members.read_rows(customers), _members.read_rows(_members.scan_assignments(shop.lake, FIRST, columns))


def test_a_customer_who_became_active_after_the_day_was_segmented_does_not_count(shop, tmp_path):
    copied = Shop(Lake(None, shutil.copytree(shop.lake.root, tmp_path / "lake")), shop.settings)
    rows = copied.lake.read_small_table(planted.FEATURES, where=ds.field("day") == FIRST)
    woken = [row | {"is_active": True, "vector": [1e6, 1e6, 1e6]} if row["customer_id"] == "dormant-0" else row for row in rows]
    replace_days(copied.lake, planted.FEATURES, woken, [FIRST])

    copied.run(segment_profiles.run, FIRST)

    assert copied.rows(segment_profiles, "day", "segment_id") == shop.rows(segment_profiles, "day", "segment_id")
