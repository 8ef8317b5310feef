"""Text columns as received, parsed: text, numbers and times. The rules hold for every source and table.

Times and numbers are read as Spark's `try_cast` reads them. Values in the usual forms are parsed by Polars, all at once; every
other distinct value by plain Python.
"""

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl
import pyarrow as pa

_DIRT = "[\\x00-\\x1F\\x7F-\\u{9F}\\u{FEFF}\\u{200B}]"
# Characters without width, which belong to no id.
_WITHOUT_WIDTH = "[\\u{AD}\\u{180E}\\u{200B}-\\u{200F}\\u{202A}-\\u{202E}\\u{2060}-\\u{2064}\\u{FEFF}]"
_DECIMAL_ID = r"^([0-9]+)\.0+$"
_SCIENTIFIC_ID = r"^[0-9]([.,][0-9]+)?[eE]\+[0-9]{1,3}$"
NULL_WORD, DECIMAL_ID, SCIENTIFIC_ID = "null_word", "decimal_id", "scientific_id"  # what is noted of an id
_USUAL_NUMBER = r"^-?[0-9]{{1,14}}(\.[0-9]{{1,{}}})?$"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?\Z")  # digits of any script
_USUAL_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,6})?Z?$"
_TIME_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S%.f")
_TIME = re.compile(
    r"(\d{4})-(\d{1,2})(?:-(\d{1,2})(?:[ T](?:(\d{1,2})(?::(\d{1,2})(?::(\d{1,2})(?:\.(\d*))?(.*))?)?)?)?)?\Z",
    re.ASCII | re.DOTALL,
)
_OFFSET = re.compile(r"(?:UTC|GMT|UT)?([+-])(?:(\d{1,2})(?::(\d{1,2})(?::(\d{2}))?)?|(\d{2})(\d{2})(\d{2})?)\Z", re.ASCII)
_SHORT_ZONES = {  # java.time.ZoneId.SHORT_IDS
    "ACT": "Australia/Darwin", "AET": "Australia/Sydney", "AGT": "America/Argentina/Buenos_Aires", "ART": "Africa/Cairo",
    "AST": "America/Anchorage", "BET": "America/Sao_Paulo", "BST": "Asia/Dhaka", "CAT": "Africa/Harare",
    "CNT": "America/St_Johns", "CST": "America/Chicago", "CTT": "Asia/Shanghai", "EAT": "Africa/Addis_Ababa",
    "ECT": "Europe/Paris", "IET": "America/Indianapolis", "IST": "Asia/Kolkata", "JST": "Asia/Tokyo", "MIT": "Pacific/Apia",
    "NET": "Asia/Yerevan", "NST": "Pacific/Auckland", "PLT": "Asia/Karachi", "PNT": "America/Phoenix",
    "PRT": "America/Puerto_Rico", "PST": "America/Los_Angeles", "SST": "Pacific/Guadalcanal", "VST": "Asia/Ho_Chi_Minh",
}  # fmt: skip
_BLANKS = "".join(map(chr, range(33)))  # what Spark trims of a value that it casts
FIRST_TIME, END_OF_TIME = datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


def clean_texts(rows: pa.Table, columns: list[str]) -> pl.DataFrame:
    """Return text columns without control characters, byte-order marks, zero-width spaces and outer blanks; empty is null."""
    return pl.DataFrame([clean_text(rows[column]).alias(column) for column in columns])


def clean_text(values: pa.ChunkedArray) -> pl.Series:
    """Return a text column without control characters, byte-order marks, zero-width spaces and outer blanks; empty is null."""
    texts = pl.Series(pl.from_arrow(values), dtype=pl.String)
    if all(is_clean(chunk) for chunk in values.chunks):
        return texts
    cleaned = texts.str.replace_all(_DIRT, "").str.strip_chars(" ")
    return cleaned.to_frame("text").select(pl.when(pl.col("text") != "").then("text")).to_series()


def is_clean(values: pa.Array) -> bool:
    """Return whether clean_text would leave all values as they are, by one look at their bytes.

    Bytes of other scripts need the longer look, which finds the few of them that are dirt.

    >>> texts = pa.array(["a "] + ["a"] * 20 + ["a "])
    >>> is_clean(texts.slice(8, 8)), is_clean(texts.slice(3, 8)), is_clean(texts.slice(8)), is_clean(texts.slice(0, 8))
    (True, True, False, False)
    """
    if len(values) == values.null_count:
        return True
    texts = values.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64, len(texts) + 1, texts.offset * 8)  # a cast may begin anew at 0
    if ends[0] == ends[-1]:
        return False
    content = np.frombuffer(data, np.uint8)
    used = content[ends[0] : ends[-1]]
    has_text = ends[1:] > ends[:-1]
    if not has_text.all() and int((~has_text).sum()) > values.null_count:
        return False
    firsts, lasts = content[ends[:-1][has_text]], content[ends[1:][has_text] - 1]
    if (firsts == 32).any() or (lasts == 32).any() or used.min() < 32 or (used == 127).any():
        return False
    return bool(used.max() < 127) or not pl.Series(pl.from_arrow(values)).str.contains(_DIRT).any()


def parse_number(values: pl.Series, scale: int = 4) -> pl.Series:
    """Return a text column as numbers with 14 digits before the point and `scale` after it, DECIMAL(18,4) by default.

    Rounded half up; null where it is no number or too large.
    """
    texts, kind = values.cast(pl.String), pl.Decimal(14 + scale, scale)
    if texts.null_count() == len(texts):
        return pl.Series(values.name, [None] * len(texts), kind)
    is_usual = texts.str.contains(_USUAL_NUMBER.format(scale))
    usual = pl.select(pl.when(is_usual).then(texts)).to_series().str.to_decimal(scale=scale).cast(kind)
    return _parse_the_rest(texts, usual, lambda text: _read_number(text, scale), kind)


def clean_id(values: pa.ChunkedArray, null_words: Collection[str] = ()) -> tuple[pl.Series, pl.DataFrame]:
    """Return a column of ids, and what was noted of some: position, rule.

    An id is cleaned as a text, without blanks of any script around it and in Unicode's composed form (NFC). `null_words`, in
    lower case, are no ids (null_word). A whole number with a decimal point is that number (decimal_id): 17850.0 is 17850. A
    number in scientific notation lost its digits in a spreadsheet; it stays as it is (scientific_id). About 0.03 µs of CPU a row.

    >>> ids, noted = clean_id(pa.chunked_array([["17850.0", "NULL", "1.2E+12", "\\u00a0a", "0.5"]]), {"null"})
    >>> ids.to_list(), noted.rows()
    (['17850', None, '1.2E+12', 'a', '0.5'], [(0, 'decimal_id'), (1, 'null_word'), (2, 'scientific_id')])
    """
    ids = clean_text(values)
    if any(_has_other_scripts(chunk) for chunk in values.chunks):
        composed = ids.str.normalize("NFC").str.replace_all(_WITHOUT_WIDTH, "").str.strip_chars()
        ids = composed.to_frame("id").select(pl.when(pl.col("id") != "").then("id")).to_series()
    words = "|".join(re.escape(word) for word in sorted(null_words))
    suspects = ids.str.contains(f"^(?i:{words})$|{_DECIMAL_ID}|{_SCIENTIFIC_ID}").fill_null(False)
    number = pl.col("id").str.replace(_DECIMAL_ID, "$1")
    is_word = number.str.to_lowercase().is_in(list(null_words))
    noted = ids.to_frame("id").with_row_index("position").filter(suspects).with_columns(
        rule=pl.when(is_word).then(pl.lit(NULL_WORD))
        .when(pl.col("id") != number).then(pl.lit(DECIMAL_ID)).otherwise(pl.lit(SCIENTIFIC_ID)),
        corrected=pl.when(~is_word).then(number),
    )  # fmt: skip
    if len(noted):
        ids = ids.scatter(noted["position"], noted["corrected"])
    return ids, noted.select("position", "rule")


def _has_other_scripts(values: pa.Array) -> bool:
    """Return whether a byte of the texts is no ASCII, by one look at the bytes."""
    data = values.cast(pa.large_string()).buffers()[2]
    return data is not None and bool((np.frombuffer(data, np.uint8) > 127).any())


def parse_rate(values: pl.Series) -> pl.Series:
    """Return a text column as DECIMAL(18,8), as parse_number does; each distinct value by plain Python."""
    texts = values.cast(pl.String)
    kind = pl.Decimal(18, 8)
    return _parse_the_rest(texts, pl.Series([None] * len(texts), dtype=kind), lambda text: _read_number(text, 8, 10), kind)


def _read_number(text: str, scale: int = 4, digits: int = 14) -> Decimal | None:
    """Return a number of at most `digits` digits before the point and `scale` after it.

    >>> [str(_read_number(text)) for text in (" 1e2", ".5", "1.00005", "nan", "1,5", "9" * 15)]
    ['100.0000', '0.5000', '1.0001', 'None', 'None', 'None']
    """
    text = text.strip(_BLANKS)
    if not _NUMBER.match(text):
        return None
    try:
        number = Decimal(text).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
    except InvalidOperation:
        return None
    return number if abs(number) < Decimal(10) ** digits else None


def parse_integer(values: pl.Series) -> pl.Series:
    """Return a text column as INT; null where it is no whole number or too large.

    >>> parse_integer(pl.Series([" 7", "+7", "7.0", "2147483648", None])).to_list()
    [7, 7, None, None, None]
    """
    texts = values.cast(pl.String).str.strip_chars(_BLANKS + chr(127))
    digits = pl.select(pl.when(texts.str.contains(r"^[+-]?[0-9]+$")).then(texts.str.strip_prefix("+"))).to_series()
    return digits.cast(pl.Int32, strict=False)


def parse_time(values: pl.Series) -> pl.Series:
    """Return a text column as a timestamp, UTC where it names no zone; null where it is no time.

    A time of day without a date is no time, nor is a year that no shop had or that Python does not have.
    """
    texts = values.cast(pl.String)
    if texts.null_count() == len(texts):
        return pl.Series(values.name, [None] * len(texts), pl.Datetime("us", "UTC"))
    usual = pl.Series([None] * len(texts), dtype=pl.Datetime("us"))
    usual_text = texts.str.strip_suffix("Z").str.replace("T", " ", literal=True)
    local = pl.select(pl.when(texts.str.contains(_USUAL_TIME)).then(usual_text)).to_series()
    for shape in _TIME_FORMATS:
        if (is_left := usual.is_null() & local.is_not_null()).any():
            usual = usual.zip_with(~is_left, local.str.to_datetime(shape, strict=False, time_unit="us"))
    times = _parse_the_rest(texts, usual.dt.replace_time_zone("UTC"), _read_time, pl.Datetime("us", "UTC"))
    return pl.select(pl.when((times >= FIRST_TIME) & (times < END_OF_TIME)).then(times)).to_series()


def _read_time(text: str) -> datetime | None:
    """
    >>> [str(_read_time(text)) for text in ("2024-3-4 5:6:7 ", "2024-03-04T10:00:00.1234567+01:00", "2024-02-30", "10:00")]
    ['2024-03-04 05:06:07+00:00', '2024-03-04 09:00:00.123456+00:00', 'None', 'None']
    """
    match = _TIME.match(text.strip(_BLANKS))
    if match is None:
        return None
    *numbers, fraction, zone = match.groups()
    year, month, day, hour, minute, second = (
        int(n) if n else least for n, least in zip(numbers, (0, 1, 1, 0, 0, 0), strict=True)
    )
    micros = int(((fraction or "") + "000000")[:6])
    try:
        local = datetime(year, month, day, hour, minute, second, micros)  # noqa: DTZ001
        return local.replace(tzinfo=_read_zone((zone or "").strip(" "))).astimezone(UTC)
    except (ValueError, OverflowError, ZoneInfoNotFoundError):
        return None


def _read_zone(text: str) -> timezone | ZoneInfo:
    """Return the zone of this name or offset, UTC for none. Raises ValueError or ZoneInfoNotFoundError for any other text."""
    if text in ("", "Z", "UTC", "GMT", "UT"):
        return UTC
    if match := _OFFSET.match(text):
        sign, *numbers = match.groups()
        hours, minutes, seconds = numbers[:3] if numbers[0] else numbers[3:]
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0), seconds=int(seconds or 0))
        if offset > timedelta(hours=18) or int(minutes or 0) > 59:
            raise ValueError(text)
        return timezone(-offset if sign == "-" else offset)
    return ZoneInfo(_SHORT_ZONES.get(text, text))


def _parse_the_rest(texts: pl.Series, usual: pl.Series, read, kind: pl.DataType) -> pl.Series:
    """Return `usual`, and where that is null although there is a text, what `read` makes of the text."""
    is_left = usual.is_null() & texts.is_not_null()
    if not is_left.any():
        return usual
    distinct = texts.filter(is_left).unique()
    values = pl.DataFrame({"text": distinct, "value": pl.Series([read(text) for text in distinct], dtype=kind)})
    left = texts.alias("text").to_frame().join(values, "text", "left", maintain_order="left")["value"]
    return usual.zip_with(~is_left, left)


def correct_event_times(own: pl.Series, sent: pl.Series, received: pl.Series, skew_seconds: float) -> pl.DataFrame:
    """Return `event_at`, the time of each event; `client_time`, by its client; `clock_skew_seconds`, the correction or null.

    The client's clock is wrong where it differs by more than `skew_seconds` from the server's, between sending and receiving. It
    is then taken to have differed as much when the event happened: Snowplow's derived_tstamp. Without a time of sending, an event
    from after its arrival happened when it arrived.
    """
    texts = {"client_time": own, "sent": sent, "received": received}
    times = pl.DataFrame([parse_time(values).alias(name) for name, values in texts.items()])
    difference = pl.col("received") - pl.col("sent")
    until_arrival = pl.col("received") - pl.col("client_time")
    shift = (
        pl.when(difference.abs() > pl.duration(microseconds=int(skew_seconds * 1e6)))
        .then(difference)
        .when(pl.col("sent").is_null() & (pl.col("client_time") > pl.col("received")))
        .then(until_arrival)
    )
    shifted = times.with_columns(shift=pl.when(pl.col("client_time").is_not_null()).then(shift))
    return shifted.select(
        "client_time",
        event_at=pl.col("client_time") + pl.col("shift").fill_null(pl.duration(seconds=0)),
        clock_skew_seconds=pl.col("shift").dt.total_microseconds() / 1e6,
    )
