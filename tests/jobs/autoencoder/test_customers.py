import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs.autoencoder.customers import NAMES_PROPERTY, TABLE, hash_ids, input_fingerprint, read_customers, split_customers
from jobs.errors import UserError
from jobs.storage.delta import table_path


@pytest.fixture
def read(shop):
    """A function that reads the shop's day from a lake."""
    return lambda lake, min_customers=1: read_customers(lake, shop.day, min_customers)


@pytest.fixture
def read_error(read):
    """A function that returns the one-line error of reading a lake."""

    def read_error(*arguments, **options) -> str:
        with pytest.raises(UserError) as raised:
            read(*arguments, **options)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return read_error


def test_active_customers_of_the_day_are_read_as_one_matrix_with_nan_for_missing_values(settings, shop, read):
    features = shop.values(40)
    features[3, 4] = np.inf
    is_active = np.arange(40) != 7
    shop.write(settings.lake, features, is_active=is_active)
    shop.write(settings.lake, shop.values(9, seed=1), mode="append", day=pa.array([shop.day.replace(day=30)] * 9))

    customers = read(settings.lake)

    expected = features[is_active]
    expected[~np.isfinite(expected)] = np.nan
    np.testing.assert_array_equal(customers.features, expected)
    assert customers.features.dtype == np.float32
    assert customers.ids.to_pylist() == [id_ for id_ in shop.ids(40) if id_ != "customer-00007"]
    countries = [country for country, active in zip(shop.countries(40), is_active, strict=True) if active]
    assert customers.attributes["country"].to_pylist() == countries
    assert customers.feature_names == tuple(f"feature_{number}" for number in range(shop.features))
    assert customers.delta_version == DeltaTable(table_path(settings.lake, TABLE)).version()


def test_the_order_and_number_of_files_do_not_change_the_fingerprint(settings, tmp_path, shop, read):
    features = shop.values(60)
    shop.write(settings.lake, features)
    shuffled_lake = str(tmp_path / "shuffled")
    order = np.random.default_rng(1).permutation(60)
    for number, rows in enumerate(np.array_split(order, 4)):
        columns = {"customer_id": [shop.ids(60)[row] for row in rows], "country": [shop.countries(60)[row] for row in rows]}
        shop.write(shuffled_lake, features[rows], mode="append" if number else "error", **columns)

    assert input_fingerprint(read(shuffled_lake)) == input_fingerprint(read(settings.lake))


def test_one_changed_value_changes_the_fingerprint(settings, shop, read):
    features = shop.values(60)
    shop.write(settings.lake, features)
    before = input_fingerprint(read(settings.lake))
    features[59, shop.features - 1] += 1
    shop.write(settings.lake, features)
    assert input_fingerprint(read(settings.lake)) != before
    before = input_fingerprint(read(settings.lake))
    shop.write(settings.lake, features, country=["Atlantis", *shop.countries(60)[1:]])
    assert input_fingerprint(read(settings.lake)) != before


def test_a_customer_keeps_their_split_whichever_other_customers_there_are(shop):
    splits = split_customers(hash_ids(pa.array(shop.ids(5000))))
    assert sorted(np.concatenate(list(splits.values()))) == list(range(5000))
    assert [len(splits[split]) for split in ("train", "validation", "test")] == pytest.approx([4000, 500, 500], rel=0.1)
    later_splits = split_customers(hash_ids(pa.array(shop.ids(5000)[2503:])))
    for split, rows in splits.items():
        assert list(later_splits[split]) == [row - 2503 for row in rows if row >= 2503]


def test_a_missing_table_is_an_error(settings, read_error):
    assert "features/customers does not exist; run first: shoal features" in read_error(settings.lake)


def test_a_day_without_rows_is_an_error(settings, shop, read_error):
    shop.write(settings.lake, shop.values(20), day=pa.array([shop.day.replace(day=30)] * 20))
    assert f"day {shop.day}: no rows" in read_error(settings.lake)


def test_too_few_active_customers_are_an_error(settings, shop, read_error):
    shop.write(settings.lake, shop.values(20), is_active=np.arange(20) < 12)
    error = read_error(settings.lake, min_customers=13)
    assert "12 active customers of 20, train.min_customers is 13" in error


def test_a_table_without_feature_names_is_an_error(settings, shop, read_error):
    shop.write(settings.lake, shop.values(20), n_names=0)
    assert NAMES_PROPERTY in read_error(settings.lake)


def test_a_vector_of_another_length_is_an_error(settings, shop, read_error):
    shop.write(settings.lake, shop.values(20), n_names=shop.features + 1)
    error = read_error(settings.lake)
    assert f"a vector has {shop.features} numbers, shoal.vector names {shop.features + 1}" in error


def test_a_customer_with_two_rows_is_an_error(settings, shop, read_error):
    shop.write(settings.lake, shop.values(20))
    shop.write(settings.lake, shop.values(3), mode="append")
    assert re.search("customer customer-0000[012] has two rows", read_error(settings.lake))


def test_a_missing_data_file_is_an_error(settings, shop, read_error):
    shop.write(settings.lake, shop.values(20))
    for uri in DeltaTable(table_path(settings.lake, TABLE)).file_uris():
        Path(uri).unlink()
    assert "cannot be read" in read_error(settings.lake)
