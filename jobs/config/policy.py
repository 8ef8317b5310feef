"""conf/policy.toml: how missing values and outliers are treated and how numbers are scaled, by table and column."""

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
CLEAN = {"products": {"price": ("null", "drop", "interpolate", "model")}}  # the methods that a clean table offers for its columns
DEFAULT = "default"
# Words that programs write where there is no id, in lower case: of every id, and of one column besides.
NULL_WORDS = {
    DEFAULT: (
        "null", "(null)", "<null>", "\\n", "nil", "none", "(none)", "nan", "<na>", "n/a", "#n/a", "undefined", "(not set)",
        "(not provided)", "not set", "[object object]", "-", "--", "?",
    ),
    "customer_id": (
        "0", "-1", "guest", "anonymous", "anon", "unknown", "true", "false", "not_authenticated", "distinct_id",
        "00000000-0000-0000-0000-000000000000",
    ),
    "visitor_id": (
        "0", "-1", "guest", "anonymous", "anon", "unknown", "true", "false", "distinct_id",
        "00000000-0000-0000-0000-000000000000",
    ),
    "order_id": ("0",),
    "product_id": (),
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """How one numeric input of the model is treated; conf/policy.toml explains the words."""

    missing: str = "median"
    value: float | None = None  # of constant
    outliers: str = "quantile"
    shares: tuple[float, float] = (0.005, 0.995)  # of quantile
    factor: float = 3.0  # of iqr
    scaling: str = "auto"


@dataclass(frozen=True)
class Selection:
    """The share of one value, and the correlation with another column, above which a column is left out."""

    constant_share: float = 0.995
    duplicate_correlation: float = 0.98


@dataclass(frozen=True)
class Policy:
    """One policy file with its words and numbers checked; who knows the table checks that the columns exist."""

    path: str
    sha256: str  # of the file's text
    features: dict[str, dict[str, Any]]  # by column of features.customers, and `default`
    selection: Selection
    clean: dict[str, str]  # method by "<table>.<column>"
    null_words: dict[str, frozenset[str]]  # words in lower case that are no ids, by column

    def column_policies(
        self, names: Collection[str], attributes: Collection[str], other_columns: Collection[str]
    ) -> list[Column]:
        """Return the treatment of each of `names`.

        Raises UserError for a column that is in none of the three arguments, and for a key that does not fit a column.
        """
        for column, values in self.features.items():
            if column != DEFAULT and column not in {*names, *attributes, *other_columns}:
                raise self._error(f"{column}: no such column; known: {', '.join(sorted({*names, *attributes}))}")
            wrong = set(values) - {"categories"} if column in attributes else set(values) & {"categories"}
            if wrong and column != DEFAULT:
                kind = "an attribute" if column in attributes else "a number"
                raise self._error(f"{column}.{min(wrong)}: {column} is {kind} and has no such key")
        default = {key: value for key, value in self.features.get(DEFAULT, {}).items() if key != "categories"}
        columns = [replace(Column(), **default | self.features.get(name, {})) for name in names]
        for name, column in zip(names, columns, strict=True):
            if column.missing == "constant" and column.value is None:
                raise self._error(f"{name}: missing = 'constant' needs a value, as in {{ missing = 'constant', value = 0 }}")
        return columns

    def categories(self, attribute: str) -> int:
        """Return how many categories of the attribute get a column of their own."""
        return (self.features.get(DEFAULT, {}) | self.features.get(attribute, {})).get("categories", 8)

    def to_record(self, columns: Mapping[str, Column], attributes: Collection[str]) -> dict:
        """Return what a model keeps of the policy: the file's hash and the treatment of each column."""
        treatments: dict[str, dict] = {name: asdict(column) for name, column in columns.items()}
        treatments |= {name: {"categories": self.categories(name)} for name in attributes}
        return {"sha256": self.sha256, "columns": treatments, "selection": asdict(self.selection)}

    def _error(self, text: str) -> UserError:
        return UserError(f"policy: {self.path}: features.customers.{text}")


def load_policy(path: str) -> Policy:
    """Return the policy in the file at `path`. Raises UserError with file and key for anything it does not know."""
    try:
        text = Path(path).read_bytes()
        values = tomllib.loads(text.decode())
    except OSError:
        raise UserError(f"policy: {path} cannot be read; the setting `policy` names the file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"policy: {path}: {error}") from None
    _check_keys(path, "", values, ("features", "selection", "clean"))
    _check_keys(path, "features.", values.get("features", {}), ("customers",))
    features = _require_table(path, "features.customers", values.get("features", {}).get("customers", {}))
    return Policy(
        path,
        hashlib.sha256(text).hexdigest(),
        {
            column: _check_values(path, f"features.customers.{column}.", _NUMBER_KEYS, _expand_short_form(entry))
            for column, entry in features.items()
        },
        Selection(**_check_values(path, "selection.", _SELECTION_KEYS, values.get("selection", {}))),
        _clean_methods(path, values.get("clean", {})),
        _null_words(path, values.get("clean", {}).get("null_words", {})),
    )


def _clean_methods(path: str, tables: Any) -> dict[str, str]:
    """Return the method for missing values by "<table>.<column>" of the clean tables."""
    _check_keys(path, "clean.", tables, (*CLEAN, "null_words"))
    methods = {}
    for table, allowed in CLEAN.items():
        entries = tables.get(table, {})
        _check_keys(path, f"clean.{table}.", entries, allowed)
        for column, words in allowed.items():
            rule = {"missing": (lambda value, words=words: value in words, f"one of {', '.join(words)}")}
            entry = _expand_short_form(entries.get(column, words[0]))
            values = _check_values(path, f"clean.{table}.{column}.", rule, entry)
            methods[f"{table}.{column}"] = values.get("missing", words[0])
    return methods


def _null_words(path: str, entry: Any) -> dict[str, frozenset[str]]:
    """Return the words that are no ids by column; a list that the file leaves out is that of NULL_WORDS."""
    rules = dict.fromkeys(NULL_WORDS, (_is_word_list, 'a list of words, as in ["null", "0"]'))
    lists = {
        column: map(_fold, words)
        for column, words in (NULL_WORDS | _check_values(path, "clean.null_words.", rules, entry)).items()
    }
    default = frozenset(lists.pop(DEFAULT))
    return {column: default.union(words) for column, words in lists.items()}


def _fold(word: str) -> str:
    return word.strip().lower()


def _is_word_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and word.strip() for word in value)


def _expand_short_form(entry: Any) -> Any:
    """Return `column = "method"` as `column = { missing = "method" }`."""
    return {"missing": entry} if isinstance(entry, str) else entry


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _is_share_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and 0 <= value[0] < value[1] <= 1


_NUMBER_KEYS = {
    "missing": (lambda v: v in MISSING, f"one of {', '.join(MISSING)}"),
    "value": (_is_number, "a number"),
    "outliers": (lambda v: v in OUTLIERS, f"one of {', '.join(OUTLIERS)}"),
    "shares": (_is_share_pair, "two shares such as [0.005, 0.995]"),
    "factor": (lambda v: _is_number(v) and v > 0, "a number above 0"),
    "scaling": (lambda v: v in SCALING, f"one of {', '.join(SCALING)}"),
    "categories": (lambda v: type(v) is int and 1 <= v <= 100, "a whole number from 1 to 100"),
}
_SELECTION_KEYS = {
    "constant_share": (lambda v: _is_number(v) and 0.5 < v <= 1, "a share above 0.5, at most 1"),
    "duplicate_correlation": (lambda v: _is_number(v) and 0 < v <= 1, "a correlation above 0, at most 1"),
}


def _check_values(path: str, prefix: str, rules: dict, entry: Any) -> dict:
    """Return the entry with lists as tuples. Raises UserError for an unknown key or a value that its rule refuses."""
    _check_keys(path, prefix, entry, rules)
    for key, value in entry.items():
        is_allowed, description = rules[key]
        if not is_allowed(value):
            raise UserError(f"policy: {path}: {prefix}{key} = {value!r} must be {description}")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _check_keys(path: str, prefix: str, entry: Any, allowed: Collection[str]) -> None:
    for key in _require_table(path, prefix.rstrip("."), entry):
        if key not in allowed:
            raise UserError(f"policy: {path}: unknown key '{prefix}{key}'; known: {', '.join(allowed)}")


def _require_table(path: str, name: str, entry: Any) -> dict:
    if not isinstance(entry, dict):
        raise UserError(f"policy: {path}: {name} = {entry!r} must be a table")
    return entry
