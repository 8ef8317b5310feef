"""How the files of a source map onto our bronze columns: conf/sources/<name>.toml, read and checked."""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from jobs.config.file_format import check_format
from jobs.config.settings import HOME
from jobs.errors import UserError

# Our bronze columns, all text. A mapping may leave out columns that its source lacks.
COLUMNS = {
    "events": (
        "event_id", "event_at", "visitor_id", "customer_id", "email_key", "event_type", "product_id", "category", "price",
        "currency", "search_term", "page", "device", "country", "user_agent", "channel", "sent_at", "received_at", "order_id",
        "address",
    ),
    "orders": (
        "order_id", "line_no", "ordered_at", "updated_at", "customer_id", "email_key", "product_id", "category", "quantity",
        "unit_price", "discount_amount", "currency", "kind", "line_kind", "original_order_id", "country", "shop", "line_id",
        "product_name", "line_amount", "order_discount", "order_shipping", "order_tax",
    ),
    "products": ("product_id", "name", "brand", "category", "price", "currency", "known_on"),
    "customers": ("customer_id", "email_key", "registered_at", "country", "merged_into", "updated_at"),
    "rates": ("rated_on", "currency", "rate"),
}  # fmt: skip
# What landing says of each row of orders besides, as DDL.
DELIVERY_COLUMNS = """_delivery STRING COMMENT 'snapshots: files hold orders as they are now; changes: what happened once',
    _left_out BOOLEAN COMMENT 'of snapshots: a row that the mapping leaves out, which takes earlier versions of its order away'"""
_REQUIRED = {
    "events": ("event_at", "event_type"),
    "orders": ("order_id", "ordered_at"),
    "products": ("product_id",),
    "customers": ("customer_id",),
    "rates": ("rated_on", "currency", "rate"),
}
_OLD_NAMES = {"undoes_order_id": "original_order_id"}  # of columns, which a mapping may still use
_PERSONAL_KINDS = ("email", "text")


@dataclass(frozen=True, eq=False)
class TableMapping:
    """How one kind of file becomes rows of one bronze table; columns and `where` are expressions in DuckDB's SQL."""

    table: str
    files: str
    columns: dict[str, str]
    format: str = "csv"
    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    comment: str = ""
    header: tuple[str, ...] = ()
    encoding: str = "utf8"
    pattern: str | None = None
    file_day: str | None = None
    where: str | None = None
    personal: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return a hash that changes when anything changes that decides the landed rows."""
        return hashlib.sha256(json.dumps(self.__dict__, sort_keys=True).encode()).hexdigest()[:16]

    def file_day_of(self, name: str) -> date | None:
        """Return the day that a file name states, or None where the mapping expects none. Raises UserError for a name without."""
        if self.file_day is None:
            return None
        match = re.search(self.file_day, name)
        try:
            return date.fromisoformat(match.group(1))
        except (AttributeError, ValueError):
            raise UserError(f"source: file {name} has no day that file_day = '{self.file_day}' finds; rename it") from None


@dataclass(frozen=True)
class Source:
    """The mappings of a source by bronze table, and the home currency, in which all money is stated after cleaning."""

    name: str
    currency: str
    mappings: dict[str, TableMapping]


def load_source(name: str) -> Source:
    """Return the source of conf/sources/<name>.toml, or of the .toml file `name` itself.

    Raises UserError for anything it cannot use.
    """
    path = Path(name) if name.endswith(".toml") else HOME / "conf" / "sources" / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        names = ", ".join(sorted(p.stem for p in (HOME / "conf" / "sources").glob("*.toml")))
        raise UserError(f"source: {path} does not exist; known sources: {names}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"source: {path}: {error}") from None
    unknown = set(values) - {"name", "currency", *COLUMNS}
    if unknown:
        raise UserError(f"source: {path}: unknown key {_quote_first(unknown)}; known: name, currency, {', '.join(COLUMNS)}")
    if not re.fullmatch(r"[A-Z]{3}", str(values.get("currency", ""))):
        raise UserError(f"source: {path}: currency must be the three letters of the home currency, such as 'EUR'")
    if not re.fullmatch(r"\w+", str(values.get("name", ""))):
        raise UserError(f"source: {path}: name must be letters, digits and underscores")
    mappings = {table: _parse_mapping(table, values[table], path) for table in COLUMNS if table in values}
    if not {"events", "orders"} & set(mappings):
        raise UserError(f"source: {path} maps neither events nor orders; add one of them")
    return Source(values["name"], values["currency"], mappings)


def _parse_mapping(table: str, values: dict, path: Path) -> TableMapping:
    place = f"source: {path} [{table}]"
    allowed = set(TableMapping.__dataclass_fields__) - {"table"}
    if unknown := set(values) - allowed:
        raise UserError(f"{place}: unknown key {_quote_first(unknown)}; known: {', '.join(sorted(allowed))}")
    if columns := values.get("columns"):
        values = {**values, "columns": _rename_columns(columns, place)}
    _check_columns(table, values, place)
    check_format(values, place)
    _check_personal(values, place)
    lists = {word: tuple(values.get(word, ())) for word in ("drop", "header")}
    return TableMapping(table=table, **{**values, **lists})


def _rename_columns(columns: dict[str, str], place: str) -> dict[str, str]:
    """Return the columns of a mapping by their present names. Raises UserError where one has its old name too."""
    renamed = {_OLD_NAMES.get(column, column): expression for column, expression in columns.items()}
    if len(renamed) < len(columns):
        twice = next(old for old, new in _OLD_NAMES.items() if old in columns and new in columns)
        raise UserError(f"{place}: {twice} is the old name of {_OLD_NAMES[twice]}; keep one of the two")
    return renamed


def _check_columns(table: str, values: dict, place: str) -> None:
    """Raise UserError for a column that the bronze table lacks, and for a missing one that it needs."""
    columns = values.get("columns", {})
    if unknown := set(columns) - set(COLUMNS[table]):
        raise UserError(f"{place}: unknown column {_quote_first(unknown)}; bronze.{table} has {', '.join(COLUMNS[table])}")
    missing = [column for column in _REQUIRED[table] if column not in columns]
    if "files" not in values or missing:
        raise UserError(f"{place} lacks {', '.join(['files'] * ('files' not in values) + missing)}")
    if table == "events" and not {"visitor_id", "customer_id"} & set(columns):
        raise UserError(f"{place} lacks visitor_id or customer_id; one of them must say who acted")


def _check_personal(values: dict, place: str) -> None:
    """Raise UserError for a kind of personal field that does not exist."""
    if set(values.get("personal", {}).values()) - set(_PERSONAL_KINDS):
        raise UserError(f"{place}: personal fields are one of {', '.join(_PERSONAL_KINDS)}")


def _quote_first(names: set[str]) -> str:
    return f"'{min(names)}'"
