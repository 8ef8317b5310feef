"""Text as received, parsed: the look that spares clean columns, numbers and times in every form that shops send."""

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest

from jobs import parsing


@pytest.mark.parametrize(
    ("received", "cleaned"),
    [
        ("plain", "plain"), ("two words", "two words"), (" blank ", "blank"), ("", None), ("  ", None), (None, None),
        ("tab\tnew\nline", "tabnewline"), ("\ufeffmark", "mark"), ("zero\u200bwidth", "zerowidth"), ("\x7f\x85", None),
        ("größe", "größe"), ("日本", "日本"), ("\u2028", "\u2028"),
    ],
)  # fmt: skip
def test_text_loses_what_cannot_be_seen_whatever_stands_beside_it(received, cleaned):
    for others in ([], ["plain"], [None, "größe"], ["dirty "]):
        values = pa.chunked_array([pa.array([*others, received], pa.string())])
        assert parsing.clean_text(values).to_list()[-1] == cleaned


def test_a_slice_is_looked_at_in_its_own_place():
    values = pa.array(["dirty ", "clean", None, "clean too"], pa.string())
    assert parsing.is_clean(values.slice(1))
    assert not parsing.is_clean(values)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12.5", "12.5"), ("-3", "-3"), (" 7 ", "7"), ("+1", "1"), (".5", "0.5"), ("5.", "5"), ("1e3", "1000"),
        ("1.00005", "1.0001"), ("-1.00005", "-1.0001"), ("9" * 14, "9" * 14), ("٣", "3"),
        ("9" * 15, None), ("1,5", None), ("1_000", None), ("nan", None), ("0x1F", None), ("", None), ("free", None), (None, None),
    ],
)  # fmt: skip
def test_numbers(text, number):
    (parsed,) = parsing.parse_number(pl.Series([text], dtype=pl.String))
    assert parsed == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-03-04 10:00:00", "2024-03-04 10:00"), ("2024-03-04T10:00:00Z", "2024-03-04 10:00"),
        ("2024-03-04T10:00:00+02:00", "2024-03-04 08:00"), ("2024-03-04 10:00:00 Europe/Paris", "2024-03-04 09:00"),
        ("2024-03-04 10:00:00 PST", "2024-03-04 18:00"), ("2024-03-04 10:00:00-0500", "2024-03-04 15:00"),
        ("2024-3-4 5:6:7", "2024-03-04 05:06:07"), ("2024-03-04", "2024-03-04"), ("2024-03", "2024-03-01"),
        ("2024-03-04 10:00:00.5", "2024-03-04 10:00:00.500"), ("2024-03-04 10:00:00.1234567", "2024-03-04 10:00:00.123456"),
        ("10:00", None), ("2024-02-30", None), ("2024-03-04 10:00:60", None), ("2024-03-04 24:00:00", None),
        ("1899-12-31", None), ("12345-01-01", None), ("2024-03-04 10:00:00+19:00", None), ("now", None), (None, None),
    ],
)  # fmt: skip
def test_times(text, time):
    for others in ([], ["2024-03-04 10:00:00"], ["noon"]):  # a value in another form beside it changes nothing
        parsed = parsing.parse_time(pl.Series([*others, text], dtype=pl.String))[-1]
        assert parsed == (None if time is None else datetime.fromisoformat(time).replace(tzinfo=UTC))
