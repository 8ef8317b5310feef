"""Delimited text (csv): its records, counted line by line, are parsed by Arrow."""

import io
import re
from collections.abc import Iterator
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from jobs.bronze.formats import content
from jobs.bronze.formats.content import SourceFile
from jobs.bronze.formats.malformed import MalformedRows
from jobs.bronze.formats.records import Marks, RecordStream
from jobs.progress import log

# Stands for a delimiter of several characters while a file is parsed; Arrow takes one.
_SEPARATOR = "\x1f"
_MOST_BLOCKS = 8  # in a chunk of records: two that hold a long record, each longer once it is UTF-8
_NO_HEADER = "if the file has no header line, name its columns with header = [...]"


def read_names(file: SourceFile) -> list[str]:
    """Return the column names. Raises UserError for a header that is none."""
    return _read_names(file, _open_records(file, content.FIRST_BYTES))


def read_batches(file: SourceFile, malformed: MalformedRows) -> Iterator[pa.RecordBatch]:
    """Yield the rows as batches of text. Raises UserError where the parser has other rows than there are records."""
    records = _open_records(file, content.BLOCK_BYTES)
    names = _read_names(file, records)
    n_rows = 0
    for batch in _parse(file, records, names, malformed):
        n_rows += batch.num_rows
        yield batch
    if n_rows + malformed.n_rows != records.n_records:
        reason = f"its lines are {records.n_records:,} records, and {n_rows + malformed.n_rows:,} rows were read"
        raise file.error(f"{reason}; look for quotes that do not stand around whole fields; nothing of it was landed")
    stray = "a quote opens that does not close at the end of its field; kept as malformed rows"
    _log_lines(file, records.stray_quotes, stray)
    _log_lines(file, records.loose_quotes, "text follows a closing quote; it is kept without these quotes")


def _log_lines(file: SourceFile, lines: list[int], what: str) -> None:
    if lines:
        more = f" and {len(lines) - 1:,} more" if lines[1:] else ""
        log(f"quote file {file.name}, line {lines[0]}{more}: {what}. Set quote = '' where the file has no quoted fields")


def _open_records(file: SourceFile, n_bytes: int) -> RecordStream:
    mapping = file.mapping
    is_long = len(mapping.delimiter) > 1
    delimiter = _SEPARATOR if is_long else mapping.delimiter
    comment = mapping.comment.replace(mapping.delimiter, delimiter)
    marks = Marks(delimiter.encode(), mapping.quote.encode(), mapping.escape.encode(), comment.encode())
    blocks = file.read_text(n_bytes)
    return RecordStream(file, _shorten_delimiters(file, blocks) if is_long else blocks, marks)


def _shorten_delimiters(file: SourceFile, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield text with _SEPARATOR in the place of a delimiter of several characters."""
    delimiter, separator = file.mapping.delimiter.encode(), _SEPARATOR.encode()
    kept = b""
    for block in blocks:
        if separator in block:
            raise file.error(f"it has the character {_SEPARATOR!r}, which a delimiter of several characters does not allow")
        text = (kept + block).replace(delimiter, separator)
        n_kept = next(n for n in range(len(delimiter) - 1, -1, -1) if text.endswith(delimiter[:n]))  # it may go on
        kept = delimiter[:n_kept]
        yield text[: len(text) - n_kept]
    yield kept


def _read_names(file: SourceFile, records: RecordStream) -> list[str]:
    """Return the names of the mapping, or else those of the first record, which is taken from the records."""
    if names := list(file.mapping.header):
        n_fields = records.count_first_fields()
        if n_fields not in (None, len(names)):
            reason = f"{n_fields} fields, and header names {len(names)} columns; correct header, delimiter or quote"
            raise file.error(reason, records.line)
        return names
    fields = records.read_header()
    if fields is None:
        raise file.error("it is empty; it needs a header line")
    names = [_restore(file, field.decode()) for field in fields]
    _check_names(file, names)
    return names


def _restore(file: SourceFile, text: str) -> str:
    return text.replace(_SEPARATOR, file.mapping.delimiter) if len(file.mapping.delimiter) > 1 else text


def _check_names(file: SourceFile, names: list[str]) -> None:
    """Raise UserError for a header that cannot be one. It may be a row, so that no name is quoted."""
    if "" in names:
        raise file.error(f"column {names.index('') + 1} of the header has no name; {_NO_HEADER}", 1)
    if repeated := next((name for name in names if names.count(name) > 1), None):
        first, second, *_ = (number for number, name in enumerate(names, 1) if name == repeated)
        raise file.error(f"columns {first} and {second} of the header have the same name; {_NO_HEADER}", 1)
    if len(names) == 1 and not file.mapping.header and (match := re.search(r"[,;\t|]", names[0])):
        mark = match.group()
        raise file.error(f"one column, with {mark!r} in its name; set delimiter = {mark!r}?", 1)


class _Chunks(io.RawIOBase):
    """Chunks of bytes as the file that Arrow reads, one at a time: a block that Arrow cuts itself may lose a line feed."""

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks = chunks

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return next(self._chunks, b"")


def _parse(file: SourceFile, records: RecordStream, names: list[str], malformed: MalformedRows) -> Iterator[pa.RecordBatch]:
    def collect(row: pa.csv.InvalidRow) -> str:
        text = records.replaced.pop(row.number, None)
        malformed.add(row.number, records.line_of(row.number), _restore(file, row.text if text is None else text))
        return "skip"

    chunks = (chunk for chunk in records.read_chunks(len(names)) if chunk)
    first = next(chunks, None)
    if first is None:
        return  # Arrow refuses a file without rows
    mapping = file.mapping
    reader = pa.csv.open_csv(
        pa.PythonFile(_Chunks(chain([first], chunks)), mode="r"),
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=_MOST_BLOCKS * content.BLOCK_BYTES, column_names=names),
        parse_options=pa.csv.ParseOptions(
            delimiter=_SEPARATOR if len(mapping.delimiter) > 1 else mapping.delimiter,
            quote_char=mapping.quote or False,
            escape_char=mapping.escape or False,
            newlines_in_values=True,
            ignore_empty_lines=False,
            invalid_row_handler=collect,
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
    for batch in reader:
        yield _restore_batch(file, batch)


def _restore_batch(file: SourceFile, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with the delimiters of several characters that stand within fields."""
    if len(file.mapping.delimiter) == 1:
        return batch
    columns = [pc.replace_substring(column, _SEPARATOR, file.mapping.delimiter) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
