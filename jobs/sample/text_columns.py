"""Columns of numbers and codes as columns of text, and these as CSV."""

import csv
import gzip
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.sample.times import DAY_MS

_SECONDS = pa.array([f"T{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}" for s in range(86_400)])
_MILLISECONDS = pa.array([f".{ms:03}Z" for ms in range(1000)])


def join_texts(*parts: pa.Array | pa.Scalar, separator: str = "") -> pa.Array:
    """Return the parts joined row by row, null where a part is null."""
    return pc.binary_join_element_wise(*parts, separator)


def take_texts(texts: pa.Array | Iterable[str], index: np.ndarray) -> pa.Array:
    """Return texts[index], null where the index is negative."""
    texts = texts if isinstance(texts, pa.Array) else pa.array(list(texts))
    return texts.take(pa.array(index.astype("i8"), mask=index < 0))


def to_integers(values: np.ndarray, keep_negative: bool = False) -> pa.Array:
    """Return whole numbers as text; a number below 0 is null unless `keep_negative`."""
    values = values.astype("i8")
    return pa.array(values, mask=None if keep_negative else values < 0).cast(pa.string())


def to_decimals(hundredths: np.ndarray) -> np.ndarray:
    """Return hundredths as text with two decimals.

    >>> to_decimals(np.array([1205, 99])).tolist()
    ['12.05', '0.99']
    """
    return np.array([f"{v // 100}.{v % 100:02}" for v in hundredths.tolist()], dtype=object)


def to_timestamps(time_ms: np.ndarray, resolution_ms: int) -> pa.Array:
    """Return times as ISO text in UTC, with milliseconds where `resolution_ms` is 1 and whole seconds otherwise."""
    days, index = np.unique(time_ms // DAY_MS, return_inverse=True)
    dates = take_texts(np.datetime_as_string(days.astype("M8[D]")).tolist(), index) if len(days) else pa.array([], pa.string())
    fractions = take_texts(_MILLISECONDS, time_ms % 1000) if resolution_ms == 1 else pa.scalar("Z")
    return join_texts(dates, take_texts(_SECONDS, time_ms % DAY_MS // 1000), fractions)


def to_optional_timestamps(time_ms: np.ndarray) -> pa.Array:
    """Return times as ISO text in UTC with milliseconds, null where the time is negative."""
    return pc.if_else(pa.array(time_ms >= 0), to_timestamps(np.maximum(time_ms, 0), 1), pa.scalar(None, pa.string()))


def replace_texts(texts: pa.Array, mask: np.ndarray, by: tuple[str, ...], variant: np.ndarray | None = None) -> pa.Array:
    """Return the texts, where the mask holds one of `by`: by the row's variant, or else by its position."""
    positions = np.flatnonzero(mask)
    if not len(positions):
        return texts
    variants = positions if variant is None else variant[positions]
    return pc.replace_with_mask(texts, pa.array(mask), pa.array([by[i % len(by)] for i in variants.tolist()], pa.string()))


def quote_csv(text: str) -> str:
    """Return a CSV field, quoted where it has a comma or a quote.

    >>> quote_csv('the "best" novel'), quote_csv("atlas")
    ('"the ""best"" novel"', 'atlas')
    """
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"') else text


def format_csv(header: str, columns: list[pa.Array], malformed: np.ndarray) -> bytes:
    """Return the text of a file; a row whose position is in `malformed` has one field too many or four too few."""
    lines = pc.binary_join_element_wise(*columns, ",", null_handling="replace", null_replacement="")
    if len(malformed):
        mask = np.zeros(len(lines), dtype=bool)
        mask[malformed] = True
        broken = [_break_line(lines[i].as_py(), drop_fields=bool(i % 2)) for i in malformed.tolist()]
        lines = pc.replace_with_mask(lines, pa.array(mask), pa.array(broken, pa.string()))
    lines = pc.binary_join_element_wise(lines, pa.scalar(""), "\n")
    if not len(lines):
        return f"{header}\n".encode()
    size = np.frombuffer(lines.buffers()[1], dtype="i4")[lines.offset + len(lines)]
    return f"{header}\n".encode() + lines.buffers()[2].to_pybytes()[:size]


def _break_line(line: str, drop_fields: bool) -> str:
    fields = next(csv.reader([line]))
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields[:-4] if drop_fields else [*fields[:3], "?", *fields[3:]])
    return text.getvalue()


def write_text(path: Path, header: str, lines: list[str]) -> None:
    """Write a header and lines as a file."""
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf8")


def write_gzip(path: Path, data: bytes) -> None:
    """Write a gzip file whose bytes depend on the data only."""
    path.write_bytes(gzip.compress(data, compresslevel=1, mtime=0))
