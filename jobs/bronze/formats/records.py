"""The records of delimited text: physical lines are counted here, before a parser may join them.

A record is one line, or several where a quoted field has line breaks. Several lines are one record where
- each quoted field opens at the start of a field and closes at its end,
- the record has as many fields as the header, and
- the lines are not rows themselves: not each of them has as many fields as the header. With fewer than four columns the first
  fields of the lines must look alike too, because a text of a few words and commas can look like a row.
Everything else is a stray quote. Then its line alone is malformed, and the lines after it are read for themselves.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jobs.bronze.formats import content
from jobs.bronze.formats.content import SourceFile

_NARROW = 4  # columns; with fewer, lines that are rows must look alike as well
_LINE_END = re.compile(rb"\r\n|\r|\n")
_CR, _LF = 13, 10
_WORDS, _DIGITS = re.compile(rb"[^\W\d_]+"), re.compile(rb"\d+")


@dataclass(frozen=True)
class Marks:
    """What separates fields and lines: one byte each, b'' for none; `comment` begins lines that are none."""

    delimiter: bytes
    quote: bytes
    escape: bytes
    comment: bytes


class Record(NamedTuple):
    """A record in a buffer: where the next one begins, its fields as text, and whether each quote closes at a field's end."""

    end: int
    fields: list[bytes]
    is_strict: bool


class Scanner:
    """Reads one record at a time as Arrow does: a quote in the middle of a field is text."""

    def __init__(self, marks: Marks):
        d, q, e = (re.escape(mark) for mark in (marks.delimiter, marks.quote, marks.escape))
        escaped = rb"|%s[\s\S]" % e if e else b""
        self._plain = re.compile(rb"(?:[^%s\r\n%s]++%s)*+" % (d, e, escaped))
        self._quoted = re.compile(rb"%s((?:[^%s%s]++|%s%s%s)*+)%s" % (q, q, e, q, q, escaped, q)) if q else None
        self._unescape = re.compile(rb"%s([\s\S])" % e) if e else None
        self._marks = marks

    def scan(self, data: bytes, start: int) -> Record | None:
        """Return the record that begins at `start`, or None where it does not end within `data`, which ends with a line."""
        fields, is_strict, position = [], True, start
        while True:
            if self._quoted and data.startswith(self._marks.quote, position):
                quoted = self._quoted.match(data, position)
                if quoted is None:
                    return None
                rest = self._plain.match(data, quoted.end())
                is_strict = is_strict and not rest.group()
                inner = self._to_text(quoted.group(1)).replace(self._marks.quote * 2, self._marks.quote)
                fields.append(inner + self._to_text(rest.group()))
            else:
                rest = self._plain.match(data, position)
                fields.append(self._to_text(rest.group()))
            position = rest.end()
            if not data.startswith(self._marks.delimiter, position):
                break
            position += 1
        line_end = _LINE_END.match(data, position)
        return line_end and Record(line_end.end(), fields, is_strict)

    def _to_text(self, field: bytes) -> bytes:
        return self._unescape.sub(rb"\1", field) if self._unescape else field


class RecordStream:
    """The records of a file, to be read by a parser: whole records, without blank lines and comments.

    A malformed line is replaced by a record with a wrong number of fields; `replaced` has its text by the record's number.
    """

    def __init__(self, file: SourceFile, blocks: Iterator[bytes], marks: Marks):
        self._file, self._blocks, self._marks = file, blocks, marks
        self._scanner = Scanner(marks)
        self._buffer, self._is_last = b"", False
        self._n_columns = 0
        self.line = 1  # the physical line at the start of the buffer
        self.n_records = 0
        self.replaced: dict[int, str] = {}
        self.stray_quotes: list[int] = []  # lines
        self.loose_quotes: list[int] = []  # lines of records with text after a closing quote, which the parser joins
        self._from, self._lead = array("q", [0]), array("q", [0])  # from a record on, by how much its line is higher

    def line_of(self, record: int) -> int:
        """Return the line at which a record begins; both count from 1."""
        return record + self._lead[bisect_right(self._from, record) - 1]

    def read_header(self) -> list[bytes] | None:
        """Take the first record as the header and return its fields, or None where the file has no record."""
        while self._find_first_line():
            if record := self._scanner.scan(self._buffer[: self._find_end()], 0):
                self._skip(record.end)
                return record.fields
            if self._is_last or len(self._buffer) > content.BLOCK_BYTES:
                raise self._file.error("a quote is opened and never closed; set quote = '' where the file has none", self.line)
            self._extend()
        return None

    def count_first_fields(self) -> int | None:
        """Return the number of fields of the first record, which stays; None where there is none, or it has several lines."""
        line = self._find_first_line()
        record = self._scanner.scan(line, 0) if line else None
        return record and len(record.fields)

    def read_chunks(self, n_columns: int) -> Iterator[bytes]:
        """Yield the records in chunks. Raises UserError for a line that is too long."""
        self._n_columns = n_columns
        while self._fill():
            yield self._take_chunk()

    def _find_first_line(self) -> bytes:
        """Skip blank lines and comments, and return the first other line, which stays in the buffer; b'' where there is none."""
        while self._fill():
            line = self._buffer[: _LINE_END.search(self._buffer).end()]
            if not self._is_skipped(line):
                return line
            self._skip(len(line))
        return b""

    def _skip(self, n_bytes: int) -> None:
        self.line += len(_LINE_END.findall(self._buffer[:n_bytes]))
        self._buffer = self._buffer[n_bytes:]
        self._note_lead()

    def _note_lead(self) -> None:
        """Note that the next record begins at `line`."""
        record, lead = self.n_records + 1, self.line - self.n_records - 1
        if lead != self._lead[-1]:
            self._from.append(record)
            self._lead.append(lead)

    def _is_skipped(self, line: bytes) -> bool:
        return not line.rstrip(b"\r\n") or bool(self._marks.comment and line.startswith(self._marks.comment))

    def _extend(self) -> None:
        """Read another block; the last one ends with a line end."""
        block = next(self._blocks, None)
        if block is None:
            self._is_last = True
            if self._buffer and not self._buffer.endswith((b"\n", b"\r")):
                self._buffer += b"\n"
        else:
            self._buffer += block

    def _fill(self) -> bool:
        """Read until the buffer has a whole line; return whether there is one."""
        while not self._is_last and self._find_end() <= 0:
            if len(self._buffer) > content.BLOCK_BYTES:
                limit = content.BLOCK_BYTES >> 20
                reason = f"its rows cannot be separated: a quote is missing, or a row is longer than {limit} MiB"
                raise self._file.error(f"{reason}; nothing of it was landed", self.line)
            self._extend()
        return bool(self._buffer)

    def _find_end(self) -> int:
        """Return where the last whole line of the buffer ends; the line feed after a last carriage return may still come."""
        if self._is_last:
            return len(self._buffer)
        within = self._buffer[:-1] if self._buffer.endswith(b"\r") else self._buffer
        return max(within.rfind(b"\n"), within.rfind(b"\r")) + 1

    def _take_chunk(self) -> bytes:
        """Return the whole records of the buffer, and keep the rest of it."""
        end = self._find_end()
        chunk, rest = self._buffer[:end], self._buffer[end:]
        if n_lines := self._count_plain_lines(chunk):
            self.line += n_lines
            self.n_records += n_lines
            self._buffer = rest
            return chunk
        ends = _find_line_ends(chunk)
        starts = np.concatenate([[0], ends[:-1]])
        special = np.flatnonzero(_find_special_lines(chunk, starts, ends, self._marks))
        records, n_bytes = self._take_records(chunk, starts, ends, special)
        self._buffer = chunk[n_bytes:] + rest
        if n_bytes < len(chunk):
            self._extend()
        return records

    def _count_plain_lines(self, chunk: bytes) -> int:
        """Return the number of lines where each is a record as it stands, else 0."""
        if any(mark and mark in chunk for mark in (self._marks.quote, self._marks.escape, self._marks.comment)):
            return 0
        codes = np.frombuffer(chunk, np.uint8)
        is_feed = codes == _LF
        is_break = is_feed
        if b"\r" in chunk:
            is_return = codes == _CR
            if (is_return[:-1] > is_feed[1:]).any():
                return 0  # one stands alone, and ends a line
            is_break = is_feed | is_return
        has_blank_lines = is_break[0] or (is_break[1:] & is_feed[:-1]).any()
        return 0 if has_blank_lines else int(np.count_nonzero(is_feed))

    def _take_records(self, chunk: bytes, starts: np.ndarray, ends: np.ndarray, special: np.ndarray) -> tuple[bytes, int]:
        """Return the records of a chunk, and how many of its bytes they are; a last record whose quote is open stays."""
        pieces: list[bytes] = []
        next_line = 0
        for index in special.tolist():
            if index < next_line:
                continue
            start, end = int(starts[index]), int(ends[index])
            self._add_lines(pieces, chunk, starts, next_line, index)
            line = chunk[start:end]
            next_line = index + 1
            if self._is_skipped(line):
                self.line += 1
                self._note_lead()
                continue
            record = self._scanner.scan(chunk, start)
            if record is None and not self._is_last and len(chunk) - start <= content.BLOCK_BYTES:
                return b"".join(pieces), start
            if record and record.end > end:
                next_line = int(np.searchsorted(ends, record.end)) + 1
                if not self._is_record(record, chunk[start : record.end]):
                    record, next_line = None, index + 1
            self.n_records += 1
            if record and not record.is_strict:
                self.loose_quotes.append(self.line)
            pieces.append(chunk[start : record.end] if record else self._replace_line(line))
            self.line += next_line - index
            self._note_lead()
        self._add_lines(pieces, chunk, starts, next_line, len(ends))
        return b"".join(pieces), len(chunk)

    def _add_lines(self, pieces: list[bytes], chunk: bytes, starts: np.ndarray, first: int, last: int) -> None:
        """Add the lines from `first` to before `last`, each of which is a record."""
        if first < last:
            pieces.append(chunk[starts[first] : starts[last] if last < len(starts) else len(chunk)])
            self.n_records += last - first
            self.line += last - first

    def _is_record(self, record: Record, text: bytes) -> bool:
        """Return whether several lines are one record, by the rule of this module."""
        n_columns, delimiter = self._n_columns, self._marks.delimiter
        if not record.is_strict or len(record.fields) != n_columns or len(text) > content.BLOCK_BYTES:
            return False
        if self._marks.quote not in text:
            return True  # its line breaks are escaped
        lines = _LINE_END.split(text.rstrip(b"\r\n"))
        if n_columns == 1 or any(line.count(delimiter) != n_columns - 1 for line in lines):
            return True
        firsts = {_shape(line.partition(delimiter)[0]) for line in lines}
        return n_columns < _NARROW and len(firsts) > 1

    def _replace_line(self, line: bytes) -> bytes:
        """Return a record that any parser refuses, in the place of a line with a stray quote."""
        self.replaced[self.n_records] = line.rstrip(b"\r\n").decode(errors="replace")
        self.stray_quotes.append(self.line)
        return b"\0\n" if self._n_columns > 1 else self._marks.delimiter + b"\n"


def _shape(field: bytes) -> bytes:
    """Return what a field looks like: runs of letters and of digits.

    >>> _shape(b"2024-03-01"), _shape(b"no-17")
    (b'9-9-9', b'a-9')
    """
    return _DIGITS.sub(b"9", _WORDS.sub(b"a", field))


def _find_line_ends(chunk: bytes) -> np.ndarray:
    """Return where each line ends, its line end included. A carriage return alone ends a line too."""
    codes = np.frombuffer(chunk, np.uint8)
    is_end = codes == _LF
    if b"\r" in chunk:
        is_alone = codes == _CR
        is_alone[:-1] &= codes[1:] != _LF
        is_end |= is_alone
    return np.flatnonzero(is_end) + 1


def _find_special_lines(chunk: bytes, starts: np.ndarray, ends: np.ndarray, marks: Marks) -> np.ndarray:
    """Return whether each line is to be looked at: it is blank or a comment, or its quotes are not all around whole fields."""
    codes = np.frombuffer(chunk, np.uint8)
    is_special = np.isin(codes[starts], (_CR, _LF))
    for mark in (marks.escape, marks.comment):
        if mark and mark in chunk:
            positions = [match.start() for match in re.finditer(re.escape(mark), chunk)]
            is_special[np.searchsorted(ends, positions, side="right")] = True
    if marks.quote and marks.quote in chunk:
        positions = np.flatnonzero(codes == marks.quote[0])
        lines = np.searchsorted(ends, positions, side="right")
        first = np.searchsorted(positions, starts)  # of the quotes of each line
        is_opening = (np.arange(len(positions)) - first[lines]) % 2 == 0
        before = codes[np.maximum(positions - 1, 0)]
        before[positions == 0] = _LF
        after = codes[np.minimum(positions + 1, len(codes) - 1)]
        edges = [marks.delimiter[0], marks.quote[0], _CR, _LF]
        is_regular = np.isin(np.where(is_opening, before, after), edges)
        is_special[lines[~is_regular]] = True
        n_quotes = np.searchsorted(positions, ends) - first
        is_special |= n_quotes % 2 == 1
    return is_special
