"""Reading one source file: its rows as Arrow batches of text, numbered, with personal fields hashed."""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pyarrow as pa

from jobs.bronze._personal import hash_text, protect_columns
from jobs.bronze.formats import content, delimited, json_objects, parquet, pattern
from jobs.bronze.formats.content import SourceFile
from jobs.bronze.formats.malformed import MalformedRow, MalformedRows
from jobs.config.file_reading import FileReading
from jobs.errors import UserError

MALFORMED = "_malformed"  # the key in _extra under which the text of a row that is none is kept
LINE = "_line"  # the key in _extra under which its line is kept
_FORMATS: dict[str, ModuleType] = {"csv": delimited, "json": json_objects, "parquet": parquet, "text": pattern}


def read_header(root: str, name: str, mapping: FileReading) -> list[str]:
    """Return the file's column names. Raises UserError for an empty file, or one that is not what its mapping says."""
    file = SourceFile(root, name, mapping)
    try:
        return _FORMATS[mapping.format].read_names(file)
    except (*content.DAMAGED, UnicodeError) as error:
        raise _describe_damage(file, error) from None


def count_columns(columns: list[str]) -> str:
    """Return the number of columns in words.

    >>> count_columns(["a"]), count_columns(["a", "b"])
    ('1 column', '2 columns')
    """
    return f"{len(columns)} column{'s' * (len(columns) != 1)}"


def read_rows(root: str, name: str, mapping: FileReading, used: list[str], secret: str) -> Iterator[pa.RecordBatch]:
    """Read the file's rows: the `used` columns as text, `_extra` map of the rest, `_file`, and `_row` counted from 1.

    Personal columns come hashed, dropped ones not at all. A malformed row comes with nulls, its text in
    `_extra['_malformed']` (only its hash where the source has personal fields), and its line in `_extra['_line']`.
    Raises UserError, naming the file and line, for a truncated or undecodable file.
    """
    file, malformed = SourceFile(root, name, mapping), MalformedRows()
    secret_of_texts = secret if mapping.is_personal else None
    last = 0
    try:
        for batch in _FORMATS[mapping.format].read_batches(file, malformed):
            numbers = malformed.number_rows(last, batch.num_rows)
            last = int(numbers[-1]) if len(numbers) else last
            yield _to_batch(batch, numbers, name, mapping, used, secret)
            if rows := malformed.take():
                yield _to_malformed_batch(rows, name, used, secret_of_texts)
        if rows := malformed.take():
            yield _to_malformed_batch(rows, name, used, secret_of_texts)
    except (*content.DAMAGED, UnicodeError) as error:
        raise _describe_damage(file, error) from None


def _describe_damage(file: SourceFile, error: Exception) -> UserError:
    """Return in one line where and why a file cannot be read. Arrow's own errors quote cells; those of the system do not."""
    reason = " ".join(str(error).split())[:200] if isinstance(error, OSError | EOFError) else ""
    if file.mapping.format == "parquet":
        return file.error(f"cannot be read: {reason or 'it is not Parquet, or is damaged'}; nothing of it was landed")
    line, damage = content.locate_damage(file)
    reason = damage or reason or "its rows cannot be separated"
    if isinstance(error, UnicodeError):
        reason += "; fix the file or set encoding"
    return file.error(f"{reason}; nothing of it was landed", line)


def _to_batch(batch, numbers: np.ndarray, name: str, mapping: FileReading, used: list[str], secret: str) -> pa.RecordBatch:
    columns = protect_columns({n: batch.column(n) for n in batch.schema.names}, mapping, secret)
    extra = to_map({n: c for n, c in columns.items() if n not in used}, batch.num_rows)
    arrays = [columns[n] for n in used] + [extra, pa.repeat(name, batch.num_rows), pa.array(numbers, pa.int64())]
    return pa.RecordBatch.from_arrays(arrays, schema=_raw_schema(used))


def _to_malformed_batch(rows: list[MalformedRow], name: str, used: list[str], secret: str | None) -> pa.RecordBatch:
    """Return malformed rows as a batch; with a `secret` their texts are hashed."""
    texts = [row.text if secret is None else hash_text(row.text, secret) for row in rows]
    lines = [str(row.line) for row in rows]
    extra = to_map({MALFORMED: pa.array(texts, pa.string()), LINE: pa.array(lines, pa.string())}, len(rows))
    nulls = [pa.nulls(len(rows), pa.string()) for _ in used]
    arrays = [*nulls, extra, pa.repeat(name, len(rows)), pa.array([row.number for row in rows], pa.int64())]
    return pa.RecordBatch.from_arrays(arrays, schema=_raw_schema(used))


def _raw_schema(used: list[str]) -> pa.Schema:
    extra = pa.map_(pa.string(), pa.string())
    return pa.schema([*((n, pa.string()) for n in used), ("_extra", extra), ("_file", pa.string()), ("_row", pa.int64())])


def to_map(columns: dict[str, pa.Array], rows: int) -> pa.Array:
    """Return columns as one map per row, nulls left out."""
    if not columns:
        offsets = pa.array([0] * (rows + 1), pa.int32())
        return pa.MapArray.from_arrays(offsets, pa.array([], pa.string()), pa.array([], pa.string()))
    present = np.column_stack([c.is_valid().to_numpy(zero_copy_only=False) for c in columns.values()])
    offsets = np.concatenate([[0], present.sum(axis=1).cumsum()]).astype(np.int32)
    row_major = np.arange(rows * len(columns)).reshape(len(columns), rows).T[present]
    values = pa.concat_arrays([c.cast(pa.string()) for c in columns.values()]).take(pa.array(row_major))
    keys = pa.array(list(columns)).take(pa.array(np.broadcast_to(np.arange(len(columns)), present.shape)[present]))
    return pa.MapArray.from_arrays(pa.array(offsets), keys, values)
