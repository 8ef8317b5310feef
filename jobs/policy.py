"""conf/policy.toml: what becomes of missing values and outliers and how numbers are scaled, by table and column."""

import hashlib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jobs.errors import UserError

MISSING = ("drop", "mean", "median", "zero", "constant", "model", "multiple", "null")
OUTLIERS = ("quantile", "iqr", "none")
SCALING = ("auto", "standard", "range", "robust", "quantile", "log1p")
CLEAN = {"products": {"price": ("null", "drop", "interpolate", "model")}}  # what a clean table can do with its columns
DEFAULT = "default"


@dataclass(frozen=True)
class Column:
    """How one number of the model's input is treated; the words are explained in conf/policy.toml."""

    missing: str = "median"
    value: float | None = None  # of constant
    outliers: str = "quantile"
    shares: tuple[float, float] = (0.005, 0.995)  # of quantile
    factor: float = 3.0  # of iqr
    scaling: str = "auto"


@dataclass(frozen=True)
class Selection:
    """Above which share of one value, and which correlation, a column is left out."""

    constant_share: float = 0.995
    duplicate_correlation: float = 0.98


@dataclass(frozen=True)
class Policy:
    """One policy file, its words and numbers checked; whether its columns exist is for who knows the table."""

    path: str
    sha256: str  # of the file's text
    features: dict[str, dict[str, Any]]  # by column of features.customers, and `default`
    selection: Selection
    clean: dict[str, str]  # method by "<table>.<column>"

    def numbers(self, names: Collection[str], attributes: Collection[str], known: Collection[str]) -> list[Column]:
        """The treatment of each of `names`; raises UserError for a column that none of the three names, or a wrong key."""
        for column, given in self.features.items():
            if column != DEFAULT and column not in {*names, *attributes, *known}:
                raise self._refusal(f"{column}: no such column; known: {', '.join(sorted({*names, *attributes}))}")
            wrong = set(given) - {"categories"} if column in attributes else set(given) & {"categories"}
            if wrong and column != DEFAULT:
                kind = "an attribute" if column in attributes else "a number"
                raise self._refusal(f"{column}.{min(wrong)}: {column} is {kind} and has no such key")
        usual = {key: value for key, value in self.features.get(DEFAULT, {}).items() if key != "categories"}
        made = [replace(Column(), **usual | self.features.get(name, {})) for name in names]
        for name, column in zip(names, made, strict=True):
            if column.missing == "constant" and column.value is None:
                raise self._refusal(f"{name}: missing = 'constant' needs a value, as in {{ missing = 'constant', value = 0 }}")
        return made

    def categories(self, attribute: str) -> int:
        """How many categories of the attribute get a column of their own."""
        return (self.features.get(DEFAULT, {}) | self.features.get(attribute, {})).get("categories", 8)

    def resolved(self, columns: Mapping[str, Column], attributes: Collection[str]) -> dict:
        """What a model keeps of it: the file's hash and the treatment of each column."""
        treated: dict[str, dict] = {name: asdict(column) for name, column in columns.items()}
        treated |= {name: {"categories": self.categories(name)} for name in attributes}
        return {"sha256": self.sha256, "columns": treated, "selection": asdict(self.selection)}

    def _refusal(self, text: str) -> UserError:
        return UserError(f"policy: {self.path}: features.customers.{text}")


def load(path: str) -> Policy:
    """The policy in the file at `path`; raises UserError naming file and key for whatever it does not know."""
    try:
        text = Path(path).read_bytes()
        values = tomllib.loads(text.decode())
    except OSError:
        raise UserError(f"policy: {path} cannot be read; the setting `policy` names the file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"policy: {path}: {error}") from None
    _known(path, "", values, ("features", "selection", "clean"))
    _known(path, "features.", values.get("features", {}), ("customers",))
    return Policy(
        path,
        hashlib.sha256(text).hexdigest(),
        {
            column: _checked(path, f"features.customers.{column}.", _NUMBER, _long(given))
            for column, given in _table(path, "features.customers", values.get("features", {}).get("customers", {})).items()
        },
        Selection(**_checked(path, "selection.", _SELECTION, values.get("selection", {}))),
        _clean(path, values.get("clean", {})),
    )


def _clean(path: str, tables: Any) -> dict[str, str]:
    _known(path, "clean.", tables, CLEAN)
    found = {}
    for table, columns in CLEAN.items():
        given = tables.get(table, {})
        _known(path, f"clean.{table}.", given, columns)
        for column, methods in columns.items():
            rule = {"missing": (lambda v, methods=methods: v in methods, f"one of {', '.join(methods)}")}
            checked = _checked(path, f"clean.{table}.{column}.", rule, _long(given.get(column, methods[0])))
            found[f"{table}.{column}"] = checked.get("missing", methods[0])
    return found


def _long(given: Any) -> Any:
    """`column = "method"` is short for `column = { missing = "method" }`."""
    return {"missing": given} if isinstance(given, str) else given


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _shares(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_number, value)) and 0 <= value[0] < value[1] <= 1


_NUMBER = {
    "missing": (lambda v: v in MISSING, f"one of {', '.join(MISSING)}"),
    "value": (_number, "a number"),
    "outliers": (lambda v: v in OUTLIERS, f"one of {', '.join(OUTLIERS)}"),
    "shares": (_shares, "two shares such as [0.005, 0.995]"),
    "factor": (lambda v: _number(v) and v > 0, "a number above 0"),
    "scaling": (lambda v: v in SCALING, f"one of {', '.join(SCALING)}"),
    "categories": (lambda v: type(v) is int and 1 <= v <= 100, "a whole number from 1 to 100"),
}
_SELECTION = {
    "constant_share": (lambda v: _number(v) and 0.5 < v <= 1, "a share above 0.5, at most 1"),
    "duplicate_correlation": (lambda v: _number(v) and 0 < v <= 1, "a correlation above 0, at most 1"),
}


def _checked(path: str, prefix: str, rules: dict, given: Any) -> dict:
    _known(path, prefix, given, rules)
    for key, value in given.items():
        allowed, words = rules[key]
        if not allowed(value):
            raise UserError(f"policy: {path}: {prefix}{key} = {value!r} must be {words}")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def _known(path: str, prefix: str, given: Any, known: Collection[str]) -> None:
    for key in _table(path, prefix.rstrip("."), given):
        if key not in known:
            raise UserError(f"policy: {path}: unknown key '{prefix}{key}'; known: {', '.join(known)}")


def _table(path: str, name: str, given: Any) -> dict:
    if not isinstance(given, dict):
        raise UserError(f"policy: {path}: {name} = {given!r} must be a table")
    return given
