"""Reading one source file: decoded, hashed and numbered, as Arrow batches of text."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from jobs.bronze._personal import hash_text, protect_columns
from jobs.config.file_reading import FileReading
from jobs.errors import UserError
from jobs.storage.files import open_filesystem

BLOCK_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 16
csv.field_size_limit(BLOCK_BYTES)  # Python reads the first two records; Arrow has the same limit
_NO_HEADER = "if the file has no header line, add one"
MALFORMED = "_malformed"  # the key in _extra under which a row with the wrong number of fields is kept


def read_header(root: str, name: str, mapping: FileReading) -> list[str]:
    """Return the file's column names. Raises UserError for an empty file, or one that is not what its name says."""
    if mapping.format == "parquet":
        filesystem, base = open_filesystem(root)
        try:
            with filesystem.open_input_file(f"{base}/{name}") as file:
                names = pa.parquet.read_schema(file).names
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"land: file {name} cannot be read: {_describe_error(error, mapping)}") from None
    else:
        names = next(_read_records(root, name, mapping), None)
        if names is None:
            raise UserError(f"land: file {name} is empty; it needs a header line")
    _check_header(name, names)
    return names


def _check_header(name: str, columns: list[str]) -> None:
    """Raise UserError for a header that cannot be one. It may be a row, so that no name is quoted."""
    if "" in columns:
        raise UserError(f"land: file {name}, line 1: column {columns.index('') + 1} of the header has no name; {_NO_HEADER}")
    if repeated := next((column for column in columns if columns.count(column) > 1), None):
        first, second, *_ = (number for number, column in enumerate(columns, 1) if column == repeated)
        raise UserError(f"land: file {name}, line 1: columns {first} and {second} of the header have the same name; {_NO_HEADER}")
    if len(columns) == 1 and (match := re.search(r"[,;\t|]", columns[0])):
        mark = match.group()
        raise UserError(f"land: file {name}, line 1: one column, with {mark!r} in its name; set delimiter = {mark!r}?")


def count_columns(columns: list[str]) -> str:
    """Return the number of columns in words.

    >>> count_columns(["a"]), count_columns(["a", "b"])
    ('1 column', '2 columns')
    """
    return f"{len(columns)} column{'s' * (len(columns) != 1)}"


class _MalformedRows:
    """Rows with the wrong number of fields, collected while Arrow reads a file: (row number, text or its hash)."""

    def __init__(self, secret: str | None):
        """With a `secret` the text of a row is hashed."""
        self._rows: list[tuple[int, str]] = []
        self._numbers: list[int] = []  # of rows that were not numbered yet
        self._secret = secret
        self._last_of_several_lines: tuple[int, str] | None = None  # only the last can end with the file

    def add(self, row: pa.csv.InvalidRow) -> str:
        """Collect a row and tell Arrow to skip it."""
        number = row.number - 1
        if "\n" in row.text.strip():
            self._last_of_several_lines = (number, row.text)
        self._rows.append((number, row.text if self._secret is None else hash_text(row.text, self._secret)))
        self._numbers.append(number)
        return "skip"

    def take(self) -> list[tuple[int, str]]:
        """Return the rows since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def number_rows(self, last: int, n: int) -> np.ndarray:
        """Return the numbers of the next `n` rows that Arrow did not skip, after the row numbered `last`."""
        numbers = np.arange(last + 1, last + 1 + n + len(self._numbers))
        numbers = numbers[~np.isin(numbers, self._numbers)][:n]
        if n:
            self._numbers = [number for number in self._numbers if number > numbers[-1]]
        return numbers

    def check_quotes(self, name: str) -> None:
        """Raise UserError where a row takes in the rest of the file, as its quote is never closed."""
        number, text = self._last_of_several_lines or (0, "")
        if text.count('"') % 2:
            raise UserError(f"land: file {name}, row {number}: a quote is opened and never closed; nothing of it was landed")


def read_rows(root: str, name: str, mapping: FileReading, used: list[str], secret: str) -> Iterator[pa.RecordBatch]:
    """Read the file's rows: the `used` columns as text, `_extra` map of the rest, `_file`, and `_row` counted from 1.

    Personal columns come hashed, dropped ones not at all. A row with the wrong number of fields comes with nulls and
    its text in `_extra['_malformed']` (only its hash where the source has personal fields).
    Raises UserError, naming the file and line, for a truncated or undecodable file.
    """
    malformed = _MalformedRows(secret if mapping.is_personal else None)
    reader = _read_parquet(root, name) if mapping.format == "parquet" else _read_csv(root, name, mapping, malformed)
    last = 0
    try:
        for batch in reader:
            numbers = malformed.number_rows(last, batch.num_rows)
            last = int(numbers[-1]) if len(numbers) else last
            yield _to_batch(batch, numbers, name, mapping, used, secret)
            if rows := malformed.take():
                yield _to_malformed_batch(rows, name, used)
        malformed.check_quotes(name)
        if rows := malformed.take():
            yield _to_malformed_batch(rows, name, used)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        if mapping.format == "parquet":
            place, reason = " cannot be read", ""
        else:
            line, reason = _find_bad_line(root, name, mapping)
            place = f", line {line}"
        reason = reason or _describe_error(error, mapping)
        raise UserError(f"land: file {name}{place}: {reason}; nothing of it was landed") from None


def _read_records(root: str, name: str, mapping: FileReading) -> Iterator[list[str]]:
    """Read the records of a delimited file, without blank lines, to look at the first ones. Raises UserError as read_rows."""
    filesystem, base = open_filesystem(root)
    try:
        with filesystem.open_input_stream(f"{base}/{name}", compression=_compression_of(name)) as stream:
            text = io.TextIOWrapper(io.BufferedReader(stream), mapping.encoding, newline="")
            for record in csv.reader(text, delimiter=mapping.delimiter):
                if record:
                    yield [field.removeprefix("\ufeff") for field in record]
    except (UnicodeError, OSError, EOFError, pa.ArrowException, csv.Error) as error:
        line, reason = _find_bad_line(root, name, mapping)
        hint = "fix the file or set encoding" if isinstance(error, UnicodeError) else "fetch the file again"
        raise UserError(f"land: file {name}, line {line}: {reason or _describe_error(error, mapping)}; {hint}") from None


def _read_csv(root: str, name: str, mapping: FileReading, malformed: _MalformedRows) -> Iterator[pa.RecordBatch]:
    filesystem, base = open_filesystem(root)
    names = read_header(root, name, mapping)
    if len(list(islice(_read_records(root, name, mapping), 2))) < 2:
        return  # a header alone, which Arrow takes for no file
    stream = filesystem.open_input_stream(f"{base}/{name}", compression=_compression_of(name), buffer_size=BLOCK_BYTES)
    reader = pa.csv.open_csv(
        stream,
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, encoding=mapping.encoding),
        parse_options=pa.csv.ParseOptions(
            delimiter=mapping.delimiter, newlines_in_values=True, invalid_row_handler=malformed.add
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
    if reader.schema.names != names:
        raise UserError(f"land: file {name}, line 1: the header's quotes or line breaks cannot be made out; fix the file")
    yield from reader


def _read_parquet(root: str, name: str) -> Iterator[pa.RecordBatch]:
    filesystem, base = open_filesystem(root)
    with filesystem.open_input_file(f"{base}/{name}") as file:
        parquet = pa.parquet.ParquetFile(file)
        nested = [field.name for field in parquet.schema_arrow if pa.types.is_nested(field.type)]
        if nested:
            raise UserError(f"land: file {name}: column '{nested[0]}' holds lists or records; only plain values can be landed")
        for batch in parquet.iter_batches():
            yield pa.RecordBatch.from_arrays([c.cast(pa.string()) for c in batch.columns], names=batch.schema.names)


def _to_batch(batch, numbers: np.ndarray, name: str, mapping: FileReading, used: list[str], secret: str) -> pa.RecordBatch:
    columns = protect_columns({n: batch.column(n) for n in batch.schema.names}, mapping, secret)
    extra = to_map({n: c for n, c in columns.items() if n not in used}, batch.num_rows)
    arrays = [columns[n] for n in used] + [extra, pa.repeat(name, batch.num_rows), pa.array(numbers, pa.int64())]
    return pa.RecordBatch.from_arrays(arrays, schema=_raw_schema(used))


def _to_malformed_batch(malformed: list[tuple[int, str]], name: str, used: list[str]) -> pa.RecordBatch:
    texts = to_map({MALFORMED: pa.array([text for _, text in malformed], pa.string())}, len(malformed))
    nulls = [pa.nulls(len(malformed), pa.string()) for _ in used]
    arrays = [*nulls, texts, pa.repeat(name, len(malformed)), pa.array([n for n, _ in malformed], pa.int64())]
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


def _find_bad_line(root: str, name: str, mapping: FileReading) -> tuple[int, str]:
    """Return the line, from 1, at which a file stops being text, and why; '' where it is text up to its end."""
    filesystem, base = open_filesystem(root)
    decoder = codecs.getincrementaldecoder(mapping.encoding)()
    line = 1
    try:
        with filesystem.open_input_file(f"{base}/{name}") as raw:
            stream = gzip.GzipFile(fileobj=raw) if _compression_of(name) == "gzip" else raw
            while content := stream.read1(_CHUNK_BYTES):
                line += decoder.decode(content).count("\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return line + error.object[: error.start].decode(mapping.encoding, "ignore").count("\n"), f"not {mapping.encoding} text"
    except UnicodeError:
        return line, f"not {mapping.encoding} text"
    except (EOFError, OSError, zlib.error):
        return line, "the compressed file is truncated or damaged"
    return line, ""


def _compression_of(name: str) -> str | None:
    return "gzip" if name.endswith(".gz") else None


def _describe_error(error: Exception, mapping: FileReading) -> str:
    """Return in one line why a file cannot be read. Arrow's own errors quote cells; those of the system do not."""
    if isinstance(error, OSError | EOFError | csv.Error):
        return " ".join(str(error).split())[:200]
    if isinstance(error, UnicodeError):
        return f"not {mapping.encoding} text"
    if mapping.format == "parquet":
        return "it is not Parquet, or is damaged"
    return f"its rows cannot be separated: a quote is missing, or a row is longer than {BLOCK_BYTES >> 20} MiB"
