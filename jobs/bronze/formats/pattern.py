"""Text of which each line fits a pattern (a regular expression with named groups), such as an access log."""

import re
from collections.abc import Iterator

import pyarrow as pa

from jobs.bronze.formats import content
from jobs.bronze.formats.content import SourceFile
from jobs.bronze.formats.malformed import MalformedRows


def read_names(file: SourceFile) -> list[str]:
    """Return the names of the groups; the file must be there."""
    with file.open():
        return list(re.compile(file.mapping.pattern).groupindex)


def read_batches(file: SourceFile, malformed: MalformedRows) -> Iterator[pa.RecordBatch]:
    """Yield the lines that fit the whole pattern as batches of text; an empty group is null."""
    pattern = re.compile(file.mapping.pattern)
    names = list(pattern.groupindex)
    number, line = 0, 0
    for lines in _read_lines(file):
        rows = []
        for text in lines:
            line += 1
            if not text or (file.mapping.comment and text.startswith(file.mapping.comment)):
                continue
            number += 1
            if match := pattern.fullmatch(text):
                rows.append(match.groupdict())
            else:
                malformed.add(number, line, text)
        columns = [pa.array([row[name] or None for row in rows], pa.string()) for name in names]
        yield pa.RecordBatch.from_arrays(columns, names=names)


def _read_lines(file: SourceFile) -> Iterator[list[str]]:
    """Yield the lines of the file, some at a time, without their line ends."""
    kept = b""
    for block in file.read_text(content.FIRST_BYTES * 16):
        *lines, kept = (kept + block).split(b"\n")
        if len(kept) > content.BLOCK_BYTES:
            raise file.error(f"a line is longer than {content.BLOCK_BYTES >> 20} MiB; nothing of it was landed")
        yield [text.removesuffix(b"\r").decode() for text in lines]
    if kept:
        yield [kept.removesuffix(b"\r").decode()]
