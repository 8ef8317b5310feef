"""JSON: one object a line, or one array of objects. Each field of an object is a column of text.

Numbers keep their digits as written, objects and arrays are JSON text, and what is null or missing is null.
"""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from jobs.bronze.formats import content
from jobs.bronze.formats.content import SourceFile
from jobs.bronze.formats.malformed import MalformedRows

# Encloses the digits of a number with a fraction while an object is parsed; JSON text cannot hold it unescaped.
_MARK = "\0"
_MARKED = re.compile(r'"\\u0000([^"\\]*)\\u0000"')
_decoder = json.JSONDecoder(parse_float=lambda digits: f"{_MARK}{digits}{_MARK}", parse_constant=lambda _: None)
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_BETWEEN = re.compile(r"[\s,]*")
_BATCH_CHARACTERS = 4 << 20
_SURROGATE = re.compile(r"\\ud[89a-f]", re.I)  # half of a character beyond 16 bits, which is no text alone
_MOST_BLOCKS = 8  # in a line


class _Entry(NamedTuple):
    """A row: the line on which it begins, its text, and its fields; None where it is no object."""

    line: int
    text: str
    fields: dict | None


def read_names(file: SourceFile) -> list[str]:
    """Return the fields of all objects, in the order in which they first occur.

    Raises UserError for a file without an object.
    """
    names: dict[str, None] = {}
    n_entries = 0
    for entry in _read_entries(file):
        n_entries += 1
        names.update(dict.fromkeys(entry.fields or ()))
    if n_entries and not names:
        raise file.error("no line of it is a JSON object, and it is no array of them; check format", 1)
    return list(names)


def read_batches(file: SourceFile, malformed: MalformedRows) -> Iterator[pa.RecordBatch]:
    """Yield the rows as batches of text. Raises UserError for an array that is not one to its end."""
    names = read_names(file)
    rows: list[dict] = []
    n_characters = 0
    for number, entry in enumerate(_read_entries(file), 1):
        if entry.fields is None:
            malformed.add(number, entry.line, entry.text)
            continue
        rows.append(entry.fields)
        n_characters += len(entry.text)
        if n_characters > _BATCH_CHARACTERS:
            yield _to_batch(rows, names)
            rows, n_characters = [], 0
    yield _to_batch(rows, names)


def _to_batch(rows: list[dict], names: list[str]) -> pa.RecordBatch:
    columns = [pa.array([_to_text(row.get(name)) for row in rows], pa.string()) for name in names]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _to_text(value: object) -> str | None:
    """Return a value of JSON as text."""
    if isinstance(value, str):
        return value[1:-1] if value[:1] == _MARK == value[-1:] and len(value) > 1 else value
    if value is None:
        return None
    text = _encoder.encode(value)
    return _MARKED.sub(r"\1", text) if r"\u0000" in text else text


def _read_entries(file: SourceFile) -> Iterator[_Entry]:
    """Yield the objects of a file with their lines, and lines that are none."""
    blocks = (block.decode() for block in _split_at_lines(file))
    first = next((block for block in blocks if block.strip()), "")
    if first.lstrip().startswith("["):
        yield from _read_array(file, first, blocks)
        return
    line = 1
    for block in (text for part in ([first], blocks) for text in part):
        for text in block.split("\n"):
            if text and not text.isspace():
                yield _Entry(line, text, _parse_object(text))
            line += 1
        line -= 1  # a block ends with a line end, after which no line begins yet


def _split_at_lines(file: SourceFile) -> Iterator[bytes]:
    """Yield the text in blocks that end with a line, but for the last. Raises UserError for a line that is too long."""
    limit = _MOST_BLOCKS * content.BLOCK_BYTES
    kept: list[bytes] = []
    n_kept, line = 0, 1
    for block in file.read_text(content.FIRST_BYTES * 16):
        head, line_end, rest = block.rpartition(b"\n")
        if line_end:
            yield b"".join([*kept, head, line_end])
            kept, n_kept, line = [], 0, line + head.count(b"\n") + 1
        kept.append(rest)
        n_kept += len(rest)
        if n_kept > limit:
            raise file.error(f"a line is longer than {limit >> 20} MiB; nothing of it was landed", line)
    yield b"".join(kept)


def _parse_object(text: str) -> dict | None:
    try:
        return _check_object(_decoder.decode(text), text)
    except (ValueError, RecursionError):
        return None


def _check_object(value: object, text: str) -> dict | None:
    """Return a value that is an object of texts that can be stored, else None."""
    if not isinstance(value, dict):
        return None
    if _SURROGATE.search(text):
        try:
            _encoder.encode(value).encode()
        except UnicodeEncodeError:
            return None
    return value


def _read_array(file: SourceFile, first: str, blocks: Iterator[str]) -> Iterator[_Entry]:
    """Yield the elements of an array. Raises UserError where it breaks off, or an element cannot be read."""
    text, position, line = first, first.index("[") + 1, 1 + first[: first.index("[")].count("\n")
    while True:
        start = _BETWEEN.match(text, position).end()
        line += text.count("\n", position, start)
        if text[start : start + 1] == "]":
            return
        try:
            value, position = _decoder.raw_decode(text, start)
        except ValueError:
            more = next(blocks, None)
            if more is None or len(text) - start > content.BLOCK_BYTES:
                raise file.error("the array of JSON breaks off or cannot be read here; nothing of it was landed", line) from None
            text, position = text[start:] + more, 0
            continue
        element = text[start:position]
        yield _Entry(line, element, _check_object(value, element))
        line += element.count("\n")
