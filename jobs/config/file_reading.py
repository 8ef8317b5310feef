"""How the files of a mapping, or of a look-up in one, are read: their format, the day in their name, their personal columns."""

import codecs
import re
from dataclasses import dataclass, field
from datetime import date

from jobs.errors import UserError

_FORMATS = ("csv", "parquet")
_PERSONAL_KINDS = ("email", "text", "address")


@dataclass(frozen=True, eq=False, kw_only=True)
class FileReading:
    """The words of a mapping that say how its files are read."""

    format: str = "csv"
    delimiter: str = ","
    encoding: str = "utf8"
    file_day: str | None = None
    personal: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()

    def file_day_of(self, name: str) -> date | None:
        """Return the day that a file name states, or None where the mapping expects none. Raises UserError for a name without."""
        if self.file_day is None:
            return None
        match = re.search(self.file_day, name)
        try:
            return date.fromisoformat(match.group(1))
        except (AttributeError, ValueError):
            raise UserError(f"source: file {name} has no day that file_day = '{self.file_day}' finds; rename it") from None


def check_reading(values: dict, place: str) -> None:
    """Raise UserError for a file format, delimiter, encoding or kind of personal field that cannot be used."""
    if values.get("format", "csv") not in _FORMATS:
        raise UserError(f"{place}: format must be one of {', '.join(_FORMATS)}")
    if len(values.get("delimiter", ",")) != 1:
        raise UserError(f"{place}: delimiter must be one character")
    try:
        codecs.lookup(values.get("encoding", "utf8"))
    except LookupError:
        raise UserError(f"{place}: encoding '{values['encoding']}' is none that Python knows; try 'utf8' or 'latin-1'") from None
    if set(values.get("personal", {}).values()) - set(_PERSONAL_KINDS):
        raise UserError(f"{place}: personal fields are one of {', '.join(_PERSONAL_KINDS)}")
