"""features.vectors: the shop's own vectors, brought in from a file and checked."""

import json
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli.vectors import read_vectors
from jobs.errors import UserError
from jobs.features import vectors
from jobs.features._item_vectors import read_own_vectors
from jobs.storage.lake import Lake

ALWAYS = date(1970, 1, 1)


def bring_in(lake, folder, rows, kind="product", model="photos", known_from=ALWAYS):
    file = folder / "vectors.jsonl"
    file.write_text("\n".join(json.dumps({"id": name, "vector": vector}) for name, vector in rows))
    return vectors.write_vectors(lake, read_vectors(str(file), kind, model, known_from))


def test_parquet_csv_and_json_give_the_same_rows(tmp_path):
    (tmp_path / "v.csv").write_text('id,vector\n007,"[1, 2.5]"\n')
    (tmp_path / "v.json").write_text('[{"id": "007", "vector": [1, 2.5]}]')
    pq.write_table(pa.table({"id": ["007"], "vector": [[1.0, 2.5]]}), tmp_path / "v.parquet")
    first, *others = [read_vectors(str(tmp_path / f"v.{end}"), "product", "m", ALWAYS) for end in ("csv", "json", "parquet")]
    assert first["id"].to_pylist() == ["007"]
    assert [table.to_pylist() for table in others] == [first.to_pylist()] * 2


def test_a_vector_holds_from_its_day_and_another_model_replaces_all_of_its_kind(tmp_path):
    lake = Lake(None, str(tmp_path / "lake"))
    bring_in(lake, tmp_path, [("mug", [3, 4]), ("pen", [1, 0])])
    bring_in(lake, tmp_path, [("mug", [0, 2])], known_from=date(2024, 3, 5))
    bring_in(lake, tmp_path, [("anna", [5])], "customer", "faces", date(2024, 3, 5))
    stored = lake.read_arrow(vectors.TABLE)
    before, after = (read_own_vectors(stored, date(2024, 3, day)) for day in (4, 5))
    assert (before.model, before.matrix.tolist()) == ("product:photos", [[pytest.approx(0.6), pytest.approx(0.8)], [1, 0]])
    assert (after.model, after.matrix.tolist(), after.own.tolist()) == ("customer:faces product:photos", [[0, 1], [1, 0]], [[5]])
    assert bring_in(lake, tmp_path, [("pen", [1, 2, 3])], model="other") == 2


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "cannot be read"),
        ([("a", [1, 2]), (None, [1, 2])], "row 2 has no id"),
        ([("a", [1, 2]), ("a", [1, 2])], "row 2 has an id that an earlier row has"),
        ([("a", [1, 2]), ("b", [1])], "row 2 has not 2 numbers"),
        ([("a", [1, 2]), ("b", None)], "row 2 has no vector"),
        ([("a", [1, 2]), ("b", [1, None])], "row 2 has a value that is no number"),
        ([("a", [1, 2, 3])], "the vectors of photos have 3 numbers, and those stored 2"),
        ([("a", "blue")], "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, rows, problem):
    lake = Lake(None, str(tmp_path / "lake"))
    bring_in(lake, tmp_path, [("mug", [3, 4])])
    with pytest.raises(UserError, match=problem):
        bring_in(lake, tmp_path, rows)
    assert lake.count_rows(vectors.TABLE.name) == 1
