"""Rows in quarantine are text, the same as Spark's to_json writes."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from jobs.quality._json_rows import to_json_rows

TIME = datetime(2024, 3, 5, 12, 0, 0, 123456, tzinfo=UTC)
SEEN = pa.list_(pa.struct([("at", pa.timestamp("us", "UTC")), ("id", pa.string())]))


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (pa.string(), 'quo"te\\ back\n ü 😀\u0001', '"quo\\"te\\\\ back\\n ü 😀\\u0001"'),
        (pa.int64(), -3, "-3"),
        (pa.bool_(), False, "false"),
        (pa.decimal128(18, 4), Decimal(0), "0.0000"),
        (pa.float64(), 1.25e-7, "1.25E-7"),
        (pa.float64(), float("nan"), '"NaN"'),
        (pa.list_(pa.float32()), [0.1, None, 1e10, 12345678.0], "[0.1,null,1.0E10,1.2345678E7]"),
        (pa.date32(), date(2024, 3, 5), '"2024-03-05"'),
        (pa.timestamp("us"), TIME.replace(tzinfo=None), '"2024-03-05T12:00:00.123Z"'),
        (SEEN, [{"at": TIME, "id": None}], '[{"at":"2024-03-05T12:00:00.123Z","id":null}]'),
        (pa.map_(pa.string(), pa.decimal128(18, 4)), [("mug", Decimal(1))], '{"mug":1.0000}'),
        (pa.string(), None, "null"),
    ],
)
def test_a_value_is_written_as_spark_writes_it(kind, value, text):
    rows = pa.record_batch({"column": pa.array([value], kind)})
    assert to_json_rows(rows).to_pylist() == [f'{{"column":{text}}}']
