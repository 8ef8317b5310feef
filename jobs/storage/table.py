"""A table's contract, parsed once: its columns for Delta, for Arrow and for people; and the SQL that is made from it."""

import re
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

_ARROW_TYPES = {
    "string": pa.string(), "int": pa.int32(), "bigint": pa.int64(), "float": pa.float32(), "double": pa.float64(),
    "boolean": pa.bool_(), "date": pa.date32(), "timestamp": pa.timestamp("us", tz="UTC"),
}  # fmt: skip
_TOKEN = re.compile(r"\s*('(?:[^'\\]|\\.)*'|`[^`]*`|[A-Za-z_]\w*|\d+|[<>(),:])")


@dataclass(frozen=True)
class Column:
    """One column: `sql_type` as Spark writes it, such as `array<struct<feature:string>>`."""

    name: str
    sql_type: str
    arrow_type: pa.DataType
    nullable: bool
    comment: str


@dataclass(frozen=True)
class Table:
    """A table's contract: what BI sees and what every write must match.

    `schema` is DDL with a comment per column; `checks` are CHECK constraints by name; `partition` is a column or None.
    """

    name: str
    about: str
    schema: str
    partition: str | None = None
    checks: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)

    @cached_property
    def fields(self) -> list[Column]:
        """The columns in order. Raises ValueError where the schema is not DDL of the types in use."""
        return _Parser(self.schema).read_columns()

    @cached_property
    def columns(self) -> list[str]:
        """The names of the columns in order."""
        return [column.name for column in self.fields]

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The columns as Arrow has them."""
        return pa.schema([pa.field(c.name, c.arrow_type, c.nullable) for c in self.fields])


class _Parser:
    """Reads DDL from left to right, one token at a time."""

    def __init__(self, ddl: str):
        self._tokens, at, end = [], 0, len(ddl.rstrip())
        while at < end:
            match = _TOKEN.match(ddl, at)
            if not match:
                raise ValueError(f"schema: cannot read {ddl[at : at + 40]!r}")
            self._tokens.append(match[1])
            at = match.end()

    def read_columns(self) -> list[Column]:
        columns = [self._column()]
        while self._accept(","):
            columns.append(self._column())
        if self._tokens:
            raise ValueError(f"schema: unexpected {self._tokens[0]!r} after column {columns[-1].name}")
        return columns

    def _column(self) -> Column:
        name = self._next().strip("`")
        self._accept(":")
        sql_type, arrow_type = self._type()
        nullable = True
        if self._accept("NOT"):
            self._expect("NULL")
            nullable = False
        comment = self._next()[1:-1] if self._accept("COMMENT") else ""
        return Column(name, sql_type, arrow_type, nullable, comment.replace("\\'", "'"))

    def _type(self) -> tuple[str, pa.DataType]:
        name = self._next().lower()
        if name == "array":
            self._expect("<")
            sql_type, arrow_type = self._type()
            self._expect(">")
            return f"array<{sql_type}>", pa.list_(arrow_type)
        if name == "map":
            self._expect("<")
            (key_sql, key), _, (value_sql, value) = self._type(), self._expect(","), self._type()
            self._expect(">")
            return f"map<{key_sql},{value_sql}>", pa.map_(key, value)
        if name == "struct":
            self._expect("<")
            columns = [self._column()]
            while self._accept(","):
                columns.append(self._column())
            self._expect(">")
            inner = ",".join(f"{c.name}:{c.sql_type}" for c in columns)
            return f"struct<{inner}>", pa.struct([pa.field(c.name, c.arrow_type) for c in columns])
        if name == "decimal":
            self._expect("(")
            precision, _, scale = int(self._next()), self._expect(","), int(self._next())
            self._expect(")")
            return f"decimal({precision},{scale})", pa.decimal128(precision, scale)
        if name not in _ARROW_TYPES:
            raise ValueError(f"schema: unknown type {name!r}; known: {', '.join(_ARROW_TYPES)}, decimal, array, map, struct")
        return name, _ARROW_TYPES[name]

    def _next(self) -> str:
        if not self._tokens:
            raise ValueError("schema: the text ends in the middle of a column")
        return self._tokens.pop(0)

    def _accept(self, token: str) -> bool:
        if self._tokens and self._tokens[0].upper() == token:
            self._tokens.pop(0)
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise ValueError(f"schema: expected {token!r} before {' '.join(self._tokens[:3])!r}")


def quote_sql(text: str) -> str:
    """Return a text as a SQL string literal.

    >>> quote_sql("it's")
    "'it\\\\'s'"
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
