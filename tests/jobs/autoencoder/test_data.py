import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs.autoencoder import data
from jobs.errors import UserError


@pytest.fixture
def read(shop):
    """The table at `lake` as training reads it."""
    return lambda lake, min_customers=1: data.read(lake, shop.day, min_customers)


@pytest.fixture
def refusal(read):
    """The one line by which reading is refused."""

    def refusal(*arguments, **options) -> str:
        with pytest.raises(UserError) as raised:
            read(*arguments, **options)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return refusal


def test_active_customers_of_the_day_come_as_one_matrix_with_nan_for_what_is_missing(settings, shop, read):
    matrix = shop.values(40)
    matrix[3, 4] = np.inf
    active = np.arange(40) != 7
    shop.write(settings.lake, matrix, is_active=active)
    shop.write(settings.lake, shop.values(9, seed=1), mode="append", day=pa.array([shop.day.replace(day=30)] * 9))

    customers = read(settings.lake)

    expected = matrix[active]
    expected[~np.isfinite(expected)] = np.nan
    np.testing.assert_array_equal(customers.matrix, expected)
    assert customers.matrix.dtype == np.float32
    assert customers.ids.to_pylist() == [id_ for id_ in shop.ids(40) if id_ != "customer-00007"]
    assert customers.attributes["country"].to_pylist() == [c for c, kept in zip(shop.countries(40), active, strict=True) if kept]
    assert customers.names == tuple(f"feature_{number}" for number in range(shop.features))
    assert customers.delta_version == DeltaTable(f"{settings.lake}/{data.TABLE}").version()


def test_the_order_and_number_of_files_do_not_matter(settings, tmp_path, shop, read):
    matrix = shop.values(60)
    shop.write(settings.lake, matrix)
    other = str(tmp_path / "other")
    order = np.random.default_rng(1).permutation(60)
    for number, part in enumerate(np.array_split(order, 4)):
        of_part = {"customer_id": [shop.ids(60)[row] for row in part], "country": [shop.countries(60)[row] for row in part]}
        shop.write(other, matrix[part], mode="append" if number else "error", **of_part)

    assert data.fingerprint(read(other)) == data.fingerprint(read(settings.lake))


def test_one_other_number_is_another_fingerprint(settings, shop, read):
    matrix = shop.values(60)
    shop.write(settings.lake, matrix)
    before = data.fingerprint(read(settings.lake))
    matrix[59, shop.features - 1] += 1
    shop.write(settings.lake, matrix)
    assert data.fingerprint(read(settings.lake)) != before
    before = data.fingerprint(read(settings.lake))
    shop.write(settings.lake, matrix, country=["Atlantis", *shop.countries(60)[1:]])
    assert data.fingerprint(read(settings.lake)) != before


def test_a_customer_stays_in_its_share_whoever_else_is_there(shop):
    shares = data.split(data.hashes(pa.array(shop.ids(5000))))
    assert sorted(np.concatenate(list(shares.values()))) == list(range(5000))
    assert [len(shares[name]) for name in ("train", "validation", "test")] == pytest.approx([4000, 500, 500], rel=0.1)
    later = data.split(data.hashes(pa.array(shop.ids(5000)[2503:])))
    for name, rows in shares.items():
        assert list(later[name]) == [row - 2503 for row in rows if row >= 2503]


def test_a_missing_table_is_refused(settings, refusal):
    assert "features/customers does not exist; run first: shoal features" in refusal(settings.lake)


def test_a_day_without_rows_is_refused(settings, shop, refusal):
    shop.write(settings.lake, shop.values(20), day=pa.array([shop.day.replace(day=30)] * 20))
    assert f"day {shop.day}: no rows" in refusal(settings.lake)


def test_too_few_active_customers_are_refused(settings, shop, refusal):
    shop.write(settings.lake, shop.values(20), is_active=np.arange(20) < 12)
    text = refusal(settings.lake, min_customers=13)
    assert "12 active customers of 20, train.min_customers is 13" in text


def test_a_table_without_feature_names_is_refused(settings, shop, refusal):
    shop.write(settings.lake, shop.values(20), names=0)
    assert data.NAMES_PROPERTY in refusal(settings.lake)


def test_a_vector_of_another_length_is_refused(settings, shop, refusal):
    shop.write(settings.lake, shop.values(20), names=shop.features + 1)
    assert f"a vector has {shop.features} numbers, shoal.vector names {shop.features + 1}" in refusal(settings.lake)


def test_a_customer_with_two_rows_is_refused(settings, shop, refusal):
    shop.write(settings.lake, shop.values(20))
    shop.write(settings.lake, shop.values(3), mode="append")
    assert re.search("customer customer-0000[012] has two rows", refusal(settings.lake))


def test_a_file_that_is_gone_is_refused(settings, shop, refusal):
    shop.write(settings.lake, shop.values(20))
    for uri in DeltaTable(f"{settings.lake}/{data.TABLE}").file_uris():
        Path(uri).unlink()
    assert "cannot be read" in refusal(settings.lake)
