"""How the files of a mapping, or of a look-up in one, are read: their format, the day in their name, their personal columns."""

import re
from dataclasses import dataclass, field
from datetime import date

from jobs.config.file_format import check_format
from jobs.config.settings import MAX_UNPACKED_GIB
from jobs.errors import UserError

_PERSONAL_KINDS = ("email", "text", "address")


@dataclass(frozen=True, eq=False, kw_only=True)
class FileReading:
    """The words of a mapping that say how its files are read.

    `max_gib` is no word but a setting: what a compressed file may become.
    """

    format: str = "csv"
    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    comment: str = ""
    header: tuple[str, ...] = ()
    encoding: str = "utf8"
    pattern: str | None = None
    file_day: str | None = None
    personal: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    max_gib: float = MAX_UNPACKED_GIB

    @property
    def is_personal(self) -> bool:
        """Whether anything of the files is personal; then columns that the mapping does not name are not stored."""
        return bool(self.personal or self.drop)

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
    """Raise UserError for a word about the format of files, or a kind of personal field, that cannot be used."""
    check_format(values, place)
    if set(values.get("personal", {}).values()) - set(_PERSONAL_KINDS):
        raise UserError(f"{place}: personal fields are one of {', '.join(_PERSONAL_KINDS)}")
