"""What the values of a column look like: times in several forms, numbers, ids, and what is personal."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import duckdb

# When moments of shops lie, in seconds since 1970: 2000 to 2040.
_FIRST_SECOND, _LAST_SECOND = 946_684_800, 2_208_988_800
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
_COMMA_NUMBER = re.compile(r"[+-]?\d{1,3}(\.?\d{3})*,\d{1,2}")
_SCIENTIFIC = re.compile(r"\d(\.\d+)?[eE]\+?\d+")
_ISO = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([ T]\d{1,2}:\d{2}.*)?")
_COMPACT = re.compile(r"20\d{2}[01]\d[0-3]\d")
_PARTS = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?:[ ,T]+(\d{1,2}:\d{2})(:\d{2})?( ?[AaPp][Mm])?)?")
_LOG = re.compile(r"\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4}")
_SLASHED = re.compile(r"\d{4}/\d{1,2}/\d{1,2}( \d{1,2}:\d{2}(:\d{2})?)?")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){3,7}")
PHONE = re.compile(r"\+?[\d ()/.-]{7,20}")
_NAMED_MONTHS = (
    "%b %d, %Y %I:%M:%S %p", "%b %d, %Y, %I:%M:%S %p", "%b %d, %Y", "%d %b %Y %H:%M:%S", "%d %b %Y %H:%M", "%d %b %Y", "%d-%b-%Y",
    "%B %d, %Y", "%d %B %Y",
)  # fmt: skip
_MOST = 0.6  # share of values that must have a form
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000}


def is_number(text: str) -> bool:
    """Return whether a text is a number with a point or without a fraction."""
    return bool(_NUMBER.fullmatch(text.strip()))


def is_comma_number(text: str) -> bool:
    """Return whether a text is a number with a comma before its fraction."""
    return bool(_COMMA_NUMBER.fullmatch(text.strip()))


def is_scientific(text: str) -> bool:
    """Return whether a text is a number in scientific notation, as spreadsheets write long ids."""
    return bool(_SCIENTIFIC.fullmatch(text.strip()))


def is_time(text: str) -> bool:
    """Return whether a text is a day or a moment in one of the usual forms, epochs left out."""
    return any(pattern.fullmatch(text.strip()) for pattern in (_ISO, _PARTS, _LOG, _SLASHED))


def find_epoch_unit(text: str) -> str | None:
    """Return the unit of a number of seconds, milliseconds or microseconds since 1970, or None.

    >>> find_epoch_unit("1709280000"), find_epoch_unit("1709280000000"), find_epoch_unit("17850")
    ('s', 'ms', None)
    """
    if not re.fullmatch(r"\d{9,16}(\.\d+)?", text.strip()):
        return None
    number = float(text)
    return next((unit for unit, factor in _UNITS.items() if _FIRST_SECOND <= number / factor < _LAST_SECOND), None)


@dataclass(frozen=True)
class TimeForm:
    """How a column states times: an expression over it, whether that is sure, and what to know."""

    expression: str
    note: str = ""
    is_sure: bool = True


def guess_time(name: str, values: list[str]) -> TimeForm | None:
    """Return how a column of these values states times, or None where it states none. Values may have several forms."""
    column = quote(name)
    if not values:
        return None
    units = {find_epoch_unit(value) for value in values}
    if len(units) == 1 and (unit := units.pop()):
        words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}[unit]
        return TimeForm(f"from_epoch_{unit}({column})", f"{words} since 1970, UTC")
    if _share(values, _COMPACT.fullmatch) >= _MOST:
        return TimeForm(f"try_strptime({column}, '%Y%m%d')", "days without a time")
    if _share(values, _LOG.fullmatch) >= _MOST:
        return TimeForm(f"try_strptime({column}, '%d/%b/%Y:%H:%M:%S %z')", "with its offset")
    if form := next((form for form in _NAMED_MONTHS if _share(values, lambda text, form=form: _fits(text, form)) >= _MOST), None):
        return TimeForm(f"try_strptime({column}, '{form}')", "no offset: taken as UTC")
    if _share(values, _SLASHED.fullmatch) >= _MOST:
        return TimeForm(f"replace({column}, '/', '-')", "no offset: taken as UTC")
    iso = [value for value in values if _ISO.fullmatch(value)]
    parts = [match for value in values if (match := _PARTS.fullmatch(value))]
    if len(iso) + len(parts) < _MOST * len(values):
        return None
    if not parts:
        has_offset = any(re.search(r"(Z|[+-]\d{2}:?\d{2}|UTC)$", value[10:]) for value in iso)
        return TimeForm(name, "with its offset" if has_offset else "no offset: taken as UTC")
    form = _order_parts(column, parts)
    if iso:
        return TimeForm(
            f"coalesce(CAST({form.expression} AS VARCHAR), {column})", f"several forms; of those with marks {form.note}", False
        )
    return form


def _fits(text: str, form: str) -> bool:
    try:
        return bool(datetime.strptime(text, form))  # noqa: DTZ007 - only whether it fits
    except ValueError:
        return False


def _order_parts(column: str, matches: list[re.Match]) -> TimeForm:
    """Return the form of times such as 31/12/2024, by the numbers that only a day can be."""
    is_day_first = any(int(match[1]) > 12 for match in matches)
    is_month_first = any(int(match[3]) > 12 for match in matches)
    mark, year = matches[0][2], "%Y" if len(matches[0][4]) == 4 else "%y"
    first, second = ("%m", "%d") if is_month_first else ("%d", "%m")
    day = f"{first}{mark}{second}{mark}{year}"
    clock = " %I:%M" if any(match[7] for match in matches) else " %H:%M"
    half = " %p" if clock == " %I:%M" else ""
    forms = [f"{day}{clock}:%S{half}", f"{day}{clock}{half}", day]
    texts = ", ".join(f"'{form}'" for form in forms)
    order = "the month first" if is_month_first else "the day first"
    if is_day_first == is_month_first:
        return TimeForm(
            f"try_strptime({column}, [{texts}])", "taken with the day first: NO value shows it; swap %d and %m if not", False
        )
    return TimeForm(f"try_strptime({column}, [{texts}])", f"{order}; no offset: taken as UTC")


def guess_number(name: str, values: list[str]) -> tuple[str, str] | None:
    """Return an expression for a column of numbers, and what to know of it; None where they are none."""
    column = quote(name)
    if values and _share(values, is_number) >= 0.9:
        return name, ""
    if values and _share(values, lambda text: is_comma_number(text) or text.strip().lstrip("+-").isdigit()) >= 0.9:
        return f"replace(replace({column}, '.', ''), ',', '.')", "a comma stands before the fraction"
    stripped = [re.sub(r"^[^\d.,+-]+|[^\d.,]+$", "", value) for value in values]
    if values and _share(stripped, is_number) >= 0.9 and any(map(str.isdigit, "".join(stripped))):
        return f"regexp_replace({column}, '[^0-9.-]', '', 'g')", "signs of currencies and the like are taken away"
    return None


def _share(values: list[str], holds: Callable[[str], object]) -> float:
    return sum(bool(holds(value.strip())) for value in values) / len(values)


def share(values: list[str], holds: Callable[[str], object]) -> float:
    """Return the share of values for which `holds` is true; 0 without values."""
    return _share(values, holds) if values else 0.0


def is_plain(expression: str) -> bool:
    """Return whether an expression of a mapping is a column's name alone."""
    return bool(re.fullmatch(r"\w+(\.\w+)*|`[^`]+`|\"[^\"]+\"", expression.strip()))


def quote(name: str) -> str:
    """Return a column's name in an expression of a mapping.

    >>> quote("qty"), quote("at"), quote("Created at"), quote("customer.id")
    ('qty', '`at`', '`Created at`', "(customer->>'id')")
    """
    name = name.strip('`"')
    if re.fullmatch(r"[A-Za-z_]\w*", name):
        return name if name.lower() not in _list_sql_words() else f"`{name}`"
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name):
        first, *keys = name.split(".")
        return f"({first}" + "".join(f"->'{key}'" for key in keys[:-1]) + f"->>'{keys[-1]}')"
    return f"`{name}`"


@cache
def _list_sql_words() -> frozenset[str]:
    return frozenset(word for (word,) in duckdb.sql("SELECT keyword_name FROM duckdb_keywords()").fetchall())
