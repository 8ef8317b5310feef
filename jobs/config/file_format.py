"""The words of a mapping that say how the bytes of a file become rows, and their checks."""

import re

from jobs.errors import UserError

# The words of each format, with their defaults in TableMapping.
WORDS = {
    "csv": ("delimiter", "quote", "escape", "comment", "header", "encoding"),
    "json": ("encoding",),
    "parquet": (),
    "text": ("pattern", "comment", "encoding"),
}
_LINE_BREAKS = re.compile(r"[\r\n]")


def check_format(values: dict, place: str) -> None:
    """Raise UserError, which begins with `place`, for a format that does not exist and for a word that it cannot use."""
    file_format = values.get("format", "csv")
    if file_format not in WORDS:
        raise UserError(f"{place}: format must be one of {', '.join(WORDS)}")
    for word in ("delimiter", "quote", "escape", "comment", "encoding", "header", "pattern"):
        if word in values and word not in WORDS[file_format]:
            raise UserError(f"{place}: {word} does not go with format = '{file_format}'; remove it")
    for word in ("delimiter", "quote", "escape", "comment", "encoding", "pattern"):
        if not isinstance(values.get(word, ""), str):
            raise UserError(f"{place}: {word} must be a text")
    _check_marks(values, place)
    _check_encoding(values.get("encoding", "utf8"), place)
    if "header" in values:
        _check_header(values["header"], place)
    if file_format == "text":
        _check_pattern(values.get("pattern", ""), place)


def _check_marks(values: dict, place: str) -> None:
    """Raise UserError for marks between and around fields that cannot be told apart."""
    delimiter, quote, escape = values.get("delimiter", ","), values.get("quote", '"'), values.get("escape", "")
    if not delimiter or _LINE_BREAKS.search(delimiter) or (quote and quote in delimiter):
        raise UserError(f"{place}: delimiter must be one or more characters, without line breaks and the quote")
    if len(delimiter) == 1 and not 0 < ord(delimiter) < 128:
        raise UserError(f"{place}: a delimiter of one character must be an ASCII character")
    for word, mark in (("quote", quote), ("escape", escape)):
        if len(mark) > 1 or _LINE_BREAKS.search(mark) or not mark.isascii() or "\0" in mark:
            raise UserError(f"{place}: {word} must be one ASCII character, or '' for none")
    if escape and escape in (quote, delimiter):
        raise UserError(f"{place}: escape must differ from quote and delimiter; leave it out where quotes are doubled")
    if _LINE_BREAKS.search(comment := values.get("comment", "")) or (quote and comment.startswith(quote)):
        raise UserError(f"{place}: comment must be the first characters of a line, other than the quote")


def _check_encoding(encoding: str, place: str) -> None:
    try:
        "".encode(encoding)  # refuses codecs that do not decode bytes to text
    except (LookupError, ValueError):
        raise UserError(f"{place}: encoding '{encoding}' is none that Python knows; try 'utf8' or 'latin-1'") from None


def _check_header(header: object, place: str) -> None:
    if not isinstance(header, list) or not header or not all(isinstance(name, str) and name for name in header):
        raise UserError(f"{place}: header must be a list of the columns' names, such as header = ['id', 'time']")
    if repeated := next((name for name in header if header.count(name) > 1), None):
        raise UserError(f"{place}: header names column '{repeated}' twice")


def _check_pattern(pattern: str, place: str) -> None:
    try:
        names = re.compile(pattern).groupindex
    except re.error as error:
        raise UserError(f"{place}: pattern is no regular expression: {error}") from None
    if not names:
        raise UserError(f"{place}: format = 'text' needs a pattern with named groups, such as '(?P<ip>\\S+) (?P<page>\\S+)'")
