"""`shoal vectors import`: vectors of customers or products out of a file."""

import json
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from jobs.errors import UserError

_READERS = {
    ".parquet": "read_parquet(?)",
    ".csv": "read_csv(?, all_varchar = true)",
    ".json": "read_json(?)",
    ".jsonl": "read_json(?)",
}


def read_vectors(file: str, kind: str, model: str, known_from: date) -> pa.Table:
    """Return the rows of features.vectors in a file with the columns `id` and `vector`, a list of numbers (in CSV as JSON).

    Raises UserError for a file that cannot be read so, and where it has no rows.
    """
    reader = _READERS.get(Path(file.removesuffix(".gz")).suffix)
    if reader is None:
        raise UserError(f"vectors import: the ending of {file} is not known. Name a file of {', '.join(_READERS)}")
    try:
        with duckdb.connect() as connection:
            rows = connection.sql(f"SELECT id::TEXT AS id, vector FROM {reader}", params=[file]).to_arrow_table()  # noqa: S608
        vectors = rows["vector"]
        if pa.types.is_string(vectors.type):
            vectors = pa.array([text and json.loads(text) for text in vectors.to_pylist()])
        typed = vectors.cast(pa.list_(pa.float32()))
    except (duckdb.Error, pa.ArrowException, ValueError, TypeError) as error:
        raise UserError(
            f"vectors import: {file} cannot be read: {str(error).splitlines()[0]}. "
            "Write the columns id and vector, a list of numbers"
        ) from None
    if not rows.num_rows:
        raise UserError(f"vectors import: {file} has no rows. Name another file")
    constants = {"kind": kind, "known_from": known_from, "model": model}
    columns = {name: pa.repeat(pa.scalar(value), rows.num_rows) for name, value in constants.items()}
    return pa.table({"id": rows["id"], "vector": typed, **columns})
