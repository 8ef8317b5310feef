"""How a vendor's files map onto our bronze columns: conf/sources/<name>.toml, read and checked."""

import codecs
import hashlib
import json
import re
import tomllib
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatch
from pathlib import Path

from pyarrow import fs

from jobs.errors import UserError
from jobs.settings import HOME

# Our bronze columns, all text. The mapping may leave out what its vendor lacks.
COLUMNS = {
    "events": (
        "event_id", "event_at", "visitor_id", "customer_id", "email_key", "event_type", "product_id", "category", "price",
        "currency", "search_term", "page", "device", "country", "user_agent", "channel", "sent_at", "received_at",
    ),
    "orders": (
        "order_id", "line_no", "ordered_at", "updated_at", "customer_id", "email_key", "product_id", "category", "quantity",
        "unit_price", "discount_amount", "currency", "kind", "line_kind", "undoes_order_id", "country",
    ),
    "products": ("product_id", "name", "brand", "category", "price", "currency", "known_on"),
    "customers": ("customer_id", "email_key", "registered_at", "country"),
    "rates": ("rated_on", "currency", "rate"),
}  # fmt: skip
_REQUIRED = {
    "events": ("event_at", "event_type"),
    "orders": ("order_id", "ordered_at", "product_id", "quantity"),
    "products": ("product_id",),
    "customers": ("customer_id",),
    "rates": ("rated_on", "currency", "rate"),
}
_PERSONAL_KINDS = ("email", "text")
_FORMATS = ("csv", "parquet")


@dataclass(frozen=True, eq=False)
class Mapping:
    """What one bronze table takes from one kind of file."""

    table: str
    files: str
    columns: dict[str, str]
    format: str = "csv"
    delimiter: str = ","
    encoding: str = "utf8"
    file_day: str | None = None
    where: str | None = None
    personal: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Changes when anything that decides the landed rows changes."""
        return hashlib.sha256(json.dumps(self.__dict__, sort_keys=True).encode()).hexdigest()[:16]

    def day_of(self, name: str) -> date | None:
        """The day the file name states, or None where the mapping expects none. Raises UserError for a name without."""
        if self.file_day is None:
            return None
        found = re.search(self.file_day, name)
        try:
            return date.fromisoformat(found.group(1))
        except (AttributeError, ValueError):
            raise UserError(f"source: file {name} has no day that file_day = '{self.file_day}' finds; rename it") from None


@dataclass(frozen=True)
class Source:
    """A vendor: its mappings by bronze table, and the home currency all money is stated in after cleaning."""

    name: str
    currency: str
    mappings: dict[str, Mapping]


def load(name: str) -> Source:
    """conf/sources/<name>.toml, or the .toml file `name` itself. Raises UserError for anything it cannot use."""
    path = Path(name) if name.endswith(".toml") else HOME / "conf" / "sources" / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in (HOME / "conf" / "sources").glob("*.toml")))
        raise UserError(f"source: {path} does not exist; known sources: {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"source: {path}: {error}") from None
    unknown = set(values) - {"name", "currency", *COLUMNS}
    if unknown:
        raise UserError(f"source: {path}: unknown key {_first(unknown)}; known: name, currency, {', '.join(COLUMNS)}")
    if not re.fullmatch(r"[A-Z]{3}", str(values.get("currency", ""))):
        raise UserError(f"source: {path}: currency must be the three letters of the home currency, such as 'EUR'")
    if not re.fullmatch(r"\w+", str(values.get("name", ""))):
        raise UserError(f"source: {path}: name must be letters, digits and underscores")
    mappings = {table: _mapping(table, values[table], path) for table in COLUMNS if table in values}
    if not {"events", "orders"} & set(mappings):
        raise UserError(f"source: {path} maps neither events nor orders; add one of them")
    return Source(values["name"], values["currency"], mappings)


def find(root: str, mapping: Mapping) -> list[tuple[str, fs.FileInfo]]:
    """The files under `root` that the mapping names, as (name relative to root, info), sorted by name.

    Raises UserError where the folder is missing or holds no such file.
    """
    filesystem, base = filesystem_of(root)
    try:
        infos = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except (FileNotFoundError, NotADirectoryError, OSError):
        raise UserError(f"land: input folder {root} does not exist; name it with INPUT= or SHOAL_INPUT") from None
    named = {info.path.removeprefix(base).lstrip("/"): info for info in infos if info.type == fs.FileType.File}
    found = sorted((name, info) for name, info in named.items() if fnmatch(name, mapping.files))
    if not found:
        raise UserError(f"land: no file {mapping.files} ({mapping.table}) in {root}; check INPUT= and the source's mapping")
    return found


def filesystem_of(root: str) -> tuple[fs.FileSystem, str]:
    """The file system of a root and the root's path in it."""
    if "://" in root:
        return fs.FileSystem.from_uri(root)
    return fs.LocalFileSystem(), str(Path(root).absolute())


def _mapping(table: str, values: dict, path: Path) -> Mapping:
    where = f"source: {path} [{table}]"
    known = set(Mapping.__dataclass_fields__) - {"table"}
    if set(values) - known:
        raise UserError(f"{where}: unknown key {_first(set(values) - known)}; known: {', '.join(sorted(known))}")
    columns = values.get("columns", {})
    if set(columns) - set(COLUMNS[table]):
        unknown = _first(set(columns) - set(COLUMNS[table]))
        raise UserError(f"{where}: unknown column {unknown}; bronze.{table} has {', '.join(COLUMNS[table])}")
    missing = [c for c in _REQUIRED[table] if c not in columns]
    if "files" not in values or missing:
        raise UserError(f"{where} lacks {', '.join(['files'] * ('files' not in values) + missing)}")
    if table == "events" and not {"visitor_id", "customer_id"} & set(columns):
        raise UserError(f"{where} lacks visitor_id or customer_id; one of them must say who acted")
    if values.get("format", "csv") not in _FORMATS:
        raise UserError(f"{where}: format must be one of {', '.join(_FORMATS)}")
    if len(values.get("delimiter", ",")) != 1:
        raise UserError(f"{where}: delimiter must be one character")
    try:
        codecs.lookup(values.get("encoding", "utf8"))
    except LookupError:
        raise UserError(f"{where}: encoding '{values['encoding']}' is none that Python knows; try 'utf8' or 'latin-1'") from None
    if set(values.get("personal", {}).values()) - set(_PERSONAL_KINDS):
        raise UserError(f"{where}: personal fields are one of {', '.join(_PERSONAL_KINDS)}")
    return Mapping(table=table, **{**values, "drop": tuple(values.get("drop", ()))})


def _first(names: set[str]) -> str:
    return f"'{min(names)}'"
