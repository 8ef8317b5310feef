from datetime import date

import deltalake
import numpy as np
import pyarrow as pa
import pytest

from jobs.errors import UserError
from jobs.input_groups import read_interests

DAY = date(2026, 1, 2)


def write_interests(lake, rows: list[tuple[str, str, str, list[float] | None]]) -> None:
    customers, groups, names, vectors = zip(*rows, strict=True)
    table = pa.table({"customer_id": customers, "day": [DAY] * len(rows), "input_group": groups, "model": names})
    table = table.append_column("vector", pa.array(vectors, pa.list_(pa.float32())))
    deltalake.write_deltalake(f"{lake}/features/interests", table, partition_by=["day"])


def test_groups_are_read_in_the_order_of_the_customers(tmp_path):
    write_interests(tmp_path, [("c", "text", "m", [3, 4]), ("a", "text", "m", [1, 2]), ("a", "own_vectors", "photos", None)])
    groups = read_interests(str(tmp_path), DAY, pa.array(["a", "b", "c"]))
    assert list(groups) == ["text"]  # nobody has a vector of the other group
    np.testing.assert_array_equal(groups["text"].matrix, [[1, 2], [np.nan, np.nan], [3, 4]])
    assert groups["text"].model == "m"


def test_vectors_of_two_models_are_never_mixed(tmp_path):
    write_interests(tmp_path, [("a", "text", "m", [1, 2]), ("b", "text", "n", [3, 4])])
    with pytest.raises(UserError, match=r"the text vectors of 2026-01-02 are of several models \(m, n\)"):
        read_interests(str(tmp_path), DAY, pa.array(["a", "b"]))


def test_without_the_table_there_are_no_groups(tmp_path):
    assert read_interests(str(tmp_path), DAY, pa.array(["a"])) == {}
