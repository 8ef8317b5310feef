"""Names of columns, compared as a person compares them: without case, outer blanks and invisible characters."""

import difflib
import unicodedata
from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=4096)
def normalize_name(name: str) -> str:
    """Return what two spellings of a column's name have in common.

    >>> normalize_name("\\ufeff Full_Name\xa0"), normalize_name("full_name")
    ('full_name', 'full_name')
    """
    visible = "".join(c for c in name if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", visible).strip().casefold()


def match_name(name: str, columns: Iterable[str]) -> list[str]:
    """Return the columns of this name: the one that is spelled so, else all that differ in case or blanks alone.

    >>> match_name("Name", ["name", "Name"]), match_name("NAME", ["name", " Name"]), match_name("nam", ["name"])
    (['Name'], ['name', ' Name'], [])
    """
    columns = list(columns)
    if name in columns:
        return [name]
    return [column for column in columns if normalize_name(column) == normalize_name(name)]


def split_path(name: str, columns: Iterable[str]) -> tuple[str, list[str]] | None:
    """Return the column and the keys in it that a name such as `customer.email` is about, or None.

    >>> split_path("customer.home.mail", ["id", "Customer"]), split_path("person.mail", ["id"])
    (('Customer', ['home', 'mail']), None)
    """
    parts = name.split(".")
    for n in range(len(parts) - 1, 0, -1):
        if matches := match_name(".".join(parts[:n]), columns):
            return matches[0], parts[n:]
    return None


def suggest_names(names: Iterable[str], columns: list[str]) -> str:
    """Return a question that names columns of the file spelled much like `names`; '' where there are none.

    >>> suggest_names(["ordered"], ["Orderd", "sku"]), suggest_names(["ordered"], ["sku"])
    ("Did you mean 'Orderd'? ", '')
    """
    spellings = {normalize_name(column): column for column in columns}
    nearest = [match for name in names for match in difflib.get_close_matches(normalize_name(name), spellings, n=2)]
    quoted = " or ".join(f"'{spellings[match]}'" for match in dict.fromkeys(nearest))
    return f"Did you mean {quoted}? " if quoted else ""
