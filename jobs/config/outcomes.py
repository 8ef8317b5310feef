"""conf/outcomes.toml: what is predicted of customers, in which time to come, and of whom."""

import re
import tomllib
from dataclasses import dataclass, fields
from datetime import date as Date
from datetime import timedelta
from pathlib import Path

from jobs.errors import UserError

# By label, the keys that only it has.
LABELS = {
    "no_order": ("gap_multiple", "min_period_days"),
    "order": (),
    "top_net": ("top_share",),
    "return": (),
    "table": ("file", "customer", "date"),
}
N_WINDOWS = 3  # as-of days that labels are made of, one window apart, so that the windows do not overlap
_ELIGIBLE = ("ordered_within_days", "seen_within_days")
_RANGES = {
    "window_days": (1, 365),
    "ordered_within_days": (1, 365),
    "seen_within_days": (1, 365),
    "gap_multiple": (0.1, 100),
    "min_period_days": (1, 365),
    "top_share": (0.001, 0.5),
}


@dataclass(frozen=True)
class Outcome:
    """An outcome, and who is eligible: exactly one of the two `..._within_days` is set."""

    name: str
    label: str
    window_days: int
    ordered_within_days: int | None = None
    seen_within_days: int | None = None
    gap_multiple: float = 2.0
    min_period_days: int = 14
    top_share: float = 0.1
    file: str = ""
    customer: str = "customer_id"
    date: str = "day"

    @property
    def eligible_since(self) -> tuple[str, int]:
        """The column of features.customers, and within how many days before a day it must be for a customer to be eligible."""
        if self.ordered_within_days:
            return "last_order_day", self.ordered_within_days
        return "last_seen_day", self.seen_within_days

    def label_days(self, day: Date) -> list[Date]:  # the class has a key `date`
        """Return the earlier days as of which the outcome is known by `day`, oldest first."""
        return [day - timedelta(days=self.window_days * n) for n in range(N_WINDOWS, 0, -1)]


def load_outcomes(path: str) -> tuple[Outcome, ...]:
    """Return the outcomes of a file in its order. Raises UserError, which names the file and the key, for what cannot be used."""
    try:
        tables = tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"outcomes: {path} does not exist; the setting `outcomes` names it") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"outcomes: {path}: {error}") from None
    return tuple(_parse_outcome(path, name, values) for name, values in tables.items())


def _parse_outcome(path: str, name: str, values: object) -> Outcome:
    place = f"outcomes: {path}: {name}"
    if not isinstance(values, dict):
        raise UserError(f"{place} must be a table, such as [{name}]")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise UserError(f"{place} is no name of an outcome; use lower case, digits and _")
    if values.get("label") not in LABELS:
        raise UserError(f"{place}.label must be one of {', '.join(LABELS)}")
    allowed = {"label", "window_days", *_ELIGIBLE, *LABELS[values["label"]]}
    if unknown := set(values) - allowed:
        raise UserError(f"{place}.{min(unknown)} is no key of label {values['label']}; known: {', '.join(sorted(allowed))}")
    if "window_days" not in values:
        raise UserError(f"{place}.window_days is missing; say in how many days to come the outcome counts")
    if sum(key in values for key in _ELIGIBLE) != 1:
        raise UserError(f"{place} must have one of {' and '.join(_ELIGIBLE)}, which says who is eligible")
    for key, value in values.items():
        _check_value(f"{place}.{key}", key, value)
    if values["label"] == "table" and not values.get("file"):
        raise UserError(f"{place}.file is missing; name a CSV or Parquet file with customers and days")
    return Outcome(name, **values)


def _check_value(place: str, key: str, value: object) -> None:
    declared = next(field.type for field in fields(Outcome) if field.name == key)
    kinds = (str,) if declared is str else (int, float) if declared is float else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        kind = {(str,): "a text", (int,): "a whole number"}.get(kinds, "a number")
        raise UserError(f"{place} = {value!r} must be {kind}")
    if key in _RANGES and not _RANGES[key][0] <= value <= _RANGES[key][1]:
        least, most = _RANGES[key]
        raise UserError(f"{place} = {value} must be at least {least} and at most {most}")
