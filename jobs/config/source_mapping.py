"""How the files of a source map onto our bronze columns: conf/sources/<name>.toml, read and checked."""

import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobs.config.file_reading import FileReading, check_reading
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
REQUIRED = {
    "events": ("event_at", "event_type"),
    "orders": ("order_id", "ordered_at"),
    "products": ("product_id",),
    "customers": ("customer_id",),
    "rates": ("rated_on", "currency", "rate"),
}
_OLD_NAMES = {"undoes_order_id": "original_order_id"}  # of columns, which a mapping may still use
_DELIVERIES = ("snapshots", "changes")  # how orders arrive: files hold orders as they are now, or what happened once
_PATH = re.compile(r"([A-Za-z_]\w*)((?:\.[A-Za-z_]\w*)+)")  # of keys in a column that holds JSON
_RESERVED_TABLES = ("rows",)  # what a `select` calls the file's own rows


@dataclass(frozen=True, eq=False)
class Lookup(FileReading):
    """Other files whose newest row for a key stands beside a row of a mapping, as <name>.<column>.

    `key` is a column of these files, `on` an expression over the row; a mapping's `select` may do without them.
    """

    table: str
    name: str
    files: str
    key: str | None = None
    on: str | None = None

    @property
    def label(self) -> str:
        """Where the words of the look-up stand in the mapping."""
        return f"{self.table}.lookups.{self.name}"


@dataclass(frozen=True, eq=False)
class FillDown:
    """Columns that stand on the first rows of a key alone, and take its value on the rows below."""

    by: str
    columns: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TableMapping(FileReading):
    """How one kind of file becomes rows of one bronze table; columns, `where` and `select` are DuckDB's SQL."""

    table: str
    files: str
    columns: dict[str, str]
    where: str | None = None
    keep: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    delivery: str | None = None
    unnest: str | None = None
    fill_down: FillDown | None = None
    lookups: tuple[Lookup, ...] = ()
    select: str | None = None
    time_zone: str = "UTC"

    @property
    def label(self) -> str:
        """Where the words of the mapping stand."""
        return self.table

    @property
    def is_personal(self) -> bool:
        """Whether anything of its files, or of its look-ups, is personal."""
        return bool(self.personal or self.drop) or any(lookup.is_personal for lookup in self.lookups)

    @property
    def is_whole(self) -> bool:
        """Whether rows can be made only of a file as a whole."""
        return bool(self.unnest or self.fill_down or self.lookups or self.select)

    def fingerprint(self) -> str:
        """Return a hash that changes when anything changes that decides the landed rows."""
        words = asdict(self.limit_files(0))  # the limit changes no row
        return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:16]

    def limit_files(self, max_gib: float) -> "TableMapping":
        """Return the mapping with files, and those of look-ups, that may become so many GiB when they are unpacked."""
        return replace(self, max_gib=max_gib, lookups=tuple(replace(lookup, max_gib=max_gib) for lookup in self.lookups))


def choose_delivery(mapping: TableMapping) -> tuple[str, str]:
    """Return how the orders of a mapping arrive, 'snapshots' or 'changes', and why that is taken."""
    if mapping.delivery:
        return mapping.delivery, "the mapping says so"
    if "updated_at" in mapping.columns:
        return "snapshots", "updated_at is mapped"
    return "changes", "updated_at is not mapped"


@dataclass(frozen=True)
class Source:
    """The mappings of a source by bronze table, and the home currency, in which all money is stated after cleaning."""

    name: str
    currency: str
    mappings: dict[str, tuple[TableMapping, ...]]

    def has(self, table: str) -> bool:
        """Return whether any file is mapped onto the table."""
        return table in self.mappings

    def columns(self, table: str) -> frozenset[str]:
        """Return those of our columns of a table that at least one of its mappings fills."""
        return frozenset(column for mapping in self.mappings.get(table, ()) for column in mapping.columns)

    def limit_files(self, max_gib: float) -> "Source":
        """Return the source with compressed files that may become so many GiB."""
        tables = self.mappings.items()
        return replace(self, mappings={table: tuple(m.limit_files(max_gib) for m in mappings) for table, mappings in tables})

    def all_mappings(self) -> Iterator[TableMapping]:
        """Yield the mappings of all tables."""
        for mappings in self.mappings.values():
            yield from mappings


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
    unknown = set(values) - {"name", "currency", "time_zone", *COLUMNS}
    if unknown:
        keys = ", ".join(["name", "currency", "time_zone", *COLUMNS])
        raise UserError(f"source: {path}: unknown key {_quote_first(unknown)}; known: {keys}")
    if not re.fullmatch(r"[A-Z]{3}", str(values.get("currency", ""))):
        raise UserError(f"source: {path}: currency must be the three letters of the home currency, such as 'EUR'")
    if not re.fullmatch(r"\w+", str(values.get("name", ""))):
        raise UserError(f"source: {path}: name must be letters, digits and underscores")
    mappings = _share_personal({table: _parse_table(table, values, path) for table in COLUMNS if table in values})
    if not {"events", "orders"} & set(mappings):
        raise UserError(f"source: {path} maps neither events nor orders; add one of them")
    return Source(values["name"], values["currency"], mappings)


def _parse_table(table: str, values: dict, path: Path) -> tuple[TableMapping, ...]:
    """Return the mappings of a table: [table], or several [[table]]."""
    parts = values[table] if isinstance(values[table], list) else [values[table]]
    zone = {"time_zone": values["time_zone"]} if "time_zone" in values else {}
    return tuple(
        _parse_mapping(table, {**zone, **part}, f"source: {path} [{table}]" + (f" number {n}" if parts[1:] else ""))
        for n, part in enumerate(parts, 1)
    )


def _share_personal(mappings: dict[str, tuple[TableMapping, ...]]) -> dict[str, tuple[TableMapping, ...]]:
    """Return mappings in which a column that is personal in one is so in all of the same files."""
    personal: dict[str, dict[str, str]] = {}
    for mapping in (mapping for of_table in mappings.values() for mapping in of_table):
        personal[mapping.files] = mapping.personal | personal.get(mapping.files, {})
    return {
        table: tuple(replace(mapping, personal=personal[mapping.files] | mapping.personal) for mapping in of_table)
        for table, of_table in mappings.items()
    }


def _parse_mapping(table: str, values: dict, place: str) -> TableMapping:
    _check_keys(values, TableMapping, place)
    if columns := values.get("columns"):
        values = {**values, "columns": _rename_columns(columns, place)}
    _check_columns(table, values, place)
    check_reading(values, place)
    _check_words(table, values, place)
    lookups = tuple(_parse_lookup(table, name, words, values, place) for name, words in values.get("lookups", {}).items())
    values = {**values, "columns": {ours: _expand_path(e, values.get("lookups", ())) for ours, e in values["columns"].items()}}
    parsed = {key: tuple(values[key]) for key in ("drop", "header", "keep", "optional") if key in values}
    if "fill_down" in values:
        parsed["fill_down"] = _parse_fill_down(values["fill_down"], place)
    return TableMapping(table=table, **{**values, **parsed, "lookups": lookups})


def _expand_path(expression: str, lookups: Collection[str]) -> str:
    """Return the SQL of a path into JSON, such as `customer.id`, and any other expression as it is.

    >>> _expand_path("customer.id", []), _expand_path("people.id", ["people"])
    ('TRY(json_extract_string("customer", \\'$.id\\'))', 'people.id')
    """
    match = _PATH.fullmatch(expression.strip())
    if match is None or match[1] in lookups:
        return expression
    return f"TRY(json_extract_string(\"{match[1]}\", '${match[2]}'))"


def _check_keys(values: dict, kind: type, place: str) -> None:
    allowed = set(kind.__dataclass_fields__) - {"table", "name", "max_gib"}
    if unknown := set(values) - allowed:
        raise UserError(f"{place}: unknown key {_quote_first(unknown)}; known: {', '.join(sorted(allowed))}")


def _parse_lookup(table: str, name: str, words: dict, mapping: dict, place: str) -> Lookup:
    place = f"{place} lookups.{name}"
    _check_keys(words, Lookup, place)
    check_reading(words, place)
    if not re.fullmatch(r"[A-Za-z_]\w*", name) or name in _RESERVED_TABLES:
        raise UserError(f"{place}: call the look-up by a name of letters, digits and underscores other than 'rows'")
    needed = ["files"] if "select" in mapping else ["files", "key", "on"]
    if missing := [key for key in needed if key not in words]:
        raise UserError(f"{place} lacks {', '.join(missing)}")
    if "file_day" in words and "file_day" not in mapping:
        raise UserError(f"{place}: file_day needs a file_day of the mapping too, as the version of that day is looked up")
    lists = {key: tuple(words[key]) for key in ("drop", "header") if key in words}
    words = {**words, "on": words.get("on") and _expand_path(words["on"], mapping["lookups"])}
    return Lookup(table, name, **{**words, **lists})


def _parse_fill_down(words: object, place: str) -> FillDown:
    if not isinstance(words, dict) or set(words) != {"by", "columns"}:
        raise UserError(f"{place}: fill_down must be {{ by = 'column', columns = ['column', ...] }}")
    return FillDown(words["by"], tuple(words["columns"]))


def _check_words(table: str, values: dict, place: str) -> None:
    """Raise UserError for a time zone or kind of delivery that cannot be used."""
    try:
        ZoneInfo(values.get("time_zone", "UTC"))
    except (ZoneInfoNotFoundError, ValueError):
        raise UserError(f"{place}: time_zone '{values['time_zone']}' is none; write it as 'Europe/Berlin'") from None
    if "select" in values and (
        {"unnest", "fill_down"} & set(values) or any("on" in w for w in values.get("lookups", {}).values())
    ):
        raise UserError(f"{place}: a select says itself what unnest, fill_down and on would; remove them")
    if "delivery" in values and (table != "orders" or values["delivery"] not in _DELIVERIES):
        raise UserError(f"{place}: delivery is a word of orders alone, one of {', '.join(_DELIVERIES)}")


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
    missing = [column for column in REQUIRED[table] if column not in columns]
    if "files" not in values or missing:
        raise UserError(f"{place} lacks {', '.join(['files'] * ('files' not in values) + missing)}")
    if table == "events" and not {"visitor_id", "customer_id"} & set(columns):
        raise UserError(f"{place} lacks visitor_id or customer_id; one of them must say who acted")


def _quote_first(names: set[str]) -> str:
    return f"'{min(names)}'"
