"""Parquet: each column as text, objects and arrays as JSON text."""

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from jobs.bronze.formats.content import SourceFile
from jobs.bronze.formats.malformed import MalformedRows

_PLAIN_SCALE = 6  # decimals with more digits after the point may come as 1E-8


def read_names(file: SourceFile) -> list[str]:
    """Return the names of the columns. Raises UserError for a file that is not Parquet."""
    with file.open() as stored:
        return pa.parquet.read_schema(stored).names


def read_batches(file: SourceFile, malformed: MalformedRows) -> Iterator[pa.RecordBatch]:
    """Yield the rows as batches of text. No row of Parquet is malformed."""
    with file.open() as stored:
        parquet = pa.parquet.ParquetFile(stored)
        for batch in parquet.iter_batches():
            columns = [_to_texts(column) for column in batch.columns]
            yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _to_texts(column: pa.Array) -> pa.Array:
    """Return a column as text: times with a zone in UTC, decimals with all digits, bytes as they read or in hexadecimal."""
    kind = column.type
    if pa.types.is_nested(kind):
        return _to_json(column)
    if pa.types.is_timestamp(kind) and kind.tz:
        return column.cast(pa.timestamp(kind.unit, "UTC")).cast(pa.string())
    if pa.types.is_decimal(kind) and kind.scale > _PLAIN_SCALE:
        return pa.array([None if value is None else f"{value:f}" for value in column.to_pylist()], pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([_decode(value) for value in column.to_pylist()], pa.string())
    return column.cast(pa.string())


def _decode(value: bytes | None) -> str | None:
    r"""
    >>> _decode(b"mug"), _decode(b"\xff\x00"), _decode(None)
    ('mug', '\\xff00', None)
    """
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"\\x{value.hex()}"


def _to_json(column: pa.Array) -> pa.Array:
    """Return objects and arrays as JSON text; a value that JSON has no type for is a text within it."""
    rows = pa.table({"value": column.cast(_plain_type(column.type))})
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("rows", rows)
        texts = connection.sql("SELECT to_json(value)::VARCHAR AS text FROM rows").to_arrow_table()["text"]
    return pc.if_else(column.is_valid(), texts.combine_chunks().cast(pa.string()), pa.scalar(None, pa.string()))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a nested type whose values are texts, whole numbers, floating-point numbers and truth values."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if pa.types.is_nested(kind):
        return pa.list_(_plain_type(kind.value_type))
    is_plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return kind if is_plain else pa.string()
