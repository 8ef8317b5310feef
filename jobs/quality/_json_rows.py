"""Rows as JSON text, as Spark writes it: decimals with all their places, times in UTC to the millisecond, nulls said."""

import json
import math
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa


def to_json_rows(rows: pa.RecordBatch) -> pa.Array:
    """Return each row as a JSON object.

    >>> to_json_rows(pa.record_batch({"n": [1, None], "name": ["Ann", 'B "C"']})).to_pylist()
    ['{"n":1,"name":"Ann"}', '{"n":null,"name":"B \\\\"C\\\\""}']
    """
    names = [f"{_to_text(name)}:" for name in rows.schema.names]
    columns = [
        [_write(value, field.type) for value in column.to_pylist()] for column, field in zip(rows, rows.schema, strict=True)
    ]
    texts = (",".join(map(str.__add__, names, values)) for values in zip(*columns, strict=True))
    return pa.array([f"{{{text}}}" for text in texts], pa.string())


def _write(value: Any, kind: pa.DataType) -> str:
    """Return a value of a type as JSON."""
    if value is None:
        return "null"
    if pa.types.is_map(kind):
        return _write_object([(str(key), item) for key, item in value], [kind.item_type] * len(value))
    if pa.types.is_struct(kind):
        return _write_object(value.items(), [field.type for field in kind])
    if pa.types.is_nested(kind):
        return f"[{','.join(_write(item, kind.value_type) for item in value)}]"
    return next((write(value) for is_kind, write in _WRITERS if is_kind(kind)), None) or _to_text(str(value))


def _write_object(items: Any, kinds: list[pa.DataType]) -> str:
    return f"{{{','.join(f'{_to_text(name)}:{_write(item, kind)}' for (name, item), kind in zip(items, kinds, strict=True))}}}"


def _to_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _write_time(time: datetime) -> str:
    return f'"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"'


def _write_fraction(value: float, digits: str) -> str:
    """Return a fraction as Java writes it, `digits` being the shortest text that means it.

    >>> [_write_fraction(v, repr(v)) for v in (0.5, 1e7, 1.25e-5, float("nan"), float("-inf"))]
    ['0.5', '1.0E7', '1.25E-5', '"NaN"', '"-Infinity"']
    """
    if not math.isfinite(value):
        return '"NaN"' if math.isnan(value) else f'"{"-" if value < 0 else ""}Infinity"'
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return digits
    mantissa, exponent = f"{np.format_float_scientific(np.float64(digits), unique=True)}".split("e")
    return f"{mantissa}{'0' if mantissa.endswith('.') else ''}E{int(exponent)}"


_WRITERS: list[tuple[Callable[[pa.DataType], bool], Callable[[Any], str]]] = [
    (pa.types.is_boolean, lambda value: str(value).lower()),
    (pa.types.is_integer, str),
    (pa.types.is_decimal, lambda value: f"{value:f}"),
    (pa.types.is_float32, lambda value: _write_fraction(value, np.format_float_positional(np.float32(value), trim="0"))),
    (pa.types.is_floating, lambda value: _write_fraction(value, repr(value))),
    (pa.types.is_timestamp, _write_time),
    (pa.types.is_date, lambda value: f'"{date.isoformat(value)}"'),
]
