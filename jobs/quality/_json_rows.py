"""Rows as JSON text, as Spark writes it: decimals with all their places, times in UTC to the millisecond, nulls said."""

import math
from collections.abc import Callable, Iterable
from datetime import date, datetime
from json.encoder import encode_basestring as quote
from typing import Any

import numpy as np
import pyarrow as pa

_Writer = Callable[[Any], str]


def to_json_rows(rows: pa.RecordBatch) -> pa.Array:
    """Return each row as a JSON object.

    >>> to_json_rows(pa.record_batch({"n": [1, None], "name": ["Ann", 'B "C"']})).to_pylist()
    ['{"n":1,"name":"Ann"}', '{"n":null,"name":"B \\\\"C\\\\""}']
    """
    columns = []
    for column, field in zip(rows.columns, rows.schema, strict=True):
        name, write = quote(field.name), _choose_writer(field.type)
        columns.append([f"{name}:null" if value is None else f"{name}:{write(value)}" for value in column.to_pylist()])
    return pa.array([f"{{{','.join(row)}}}" for row in zip(*columns, strict=True)], pa.string())


def _choose_writer(kind: pa.DataType) -> _Writer:
    """Return what writes a value of a type that is not null."""
    if pa.types.is_map(kind):
        write = _or_null(_choose_writer(kind.item_type))
        return lambda value: _write_object((str(key), write(item)) for key, item in value)
    if pa.types.is_struct(kind):
        writers = {field.name: _or_null(_choose_writer(field.type)) for field in kind}
        return lambda value: _write_object((name, writers[name](item)) for name, item in value.items())
    if pa.types.is_nested(kind):
        write = _or_null(_choose_writer(kind.value_type))
        return lambda value: f"[{','.join(map(write, value))}]"
    return next((write for is_kind, write in _WRITERS if is_kind(kind)), lambda value: quote(str(value)))


def _or_null(write: _Writer) -> _Writer:
    return lambda value: "null" if value is None else write(value)


def _write_object(items: Iterable[tuple[str, str]]) -> str:
    return f"{{{','.join(f'{quote(name)}:{text}' for name, text in items)}}}"


def _write_time(time: datetime) -> str:
    """
    >>> _write_time(datetime(2024, 3, 5, 12, 0, 0, 123456))
    '"2024-03-05T12:00:00.123Z"'
    """
    return f'"{time.replace(tzinfo=None).isoformat(timespec="milliseconds")}Z"'


def _write_fraction(value: float, digits: str) -> str:
    """Return a fraction as Java writes it, `digits` being the shortest text that means it.

    >>> [_write_fraction(v, repr(v)) for v in (0.5, 1e7, 1.25e-5, float("nan"), float("-inf"))]
    ['0.5', '1.0E7', '1.25E-5', '"NaN"', '"-Infinity"']
    """
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return digits
    if not math.isfinite(value):
        return '"NaN"' if math.isnan(value) else f'"{"-" if value < 0 else ""}Infinity"'
    mantissa, exponent = np.format_float_scientific(np.float64(digits), unique=True).split("e")
    return f"{mantissa}{'0' if mantissa.endswith('.') else ''}E{int(exponent)}"


def _write_float(value: float) -> str:
    return _write_fraction(value, np.format_float_positional(np.float32(value), trim="0"))


_WRITERS: list[tuple[Callable[[pa.DataType], bool], _Writer]] = [
    (pa.types.is_string, quote),
    (pa.types.is_boolean, lambda value: "true" if value else "false"),
    (pa.types.is_integer, str),
    (pa.types.is_decimal, lambda value: f"{value:f}"),
    (pa.types.is_float32, _write_float),
    (pa.types.is_floating, lambda value: _write_fraction(value, repr(value))),
    (pa.types.is_timestamp, _write_time),
    (pa.types.is_date, lambda value: f'"{date.isoformat(value)}"'),
]
