"""conf/campaigns/*.toml: which customers a campaign is for, when it runs, and what it should change.

A campaign is read strictly: an unknown key, a metric that does not exist or a holdout of nobody is an error with the file's name.
One wrong file leaves the others usable, so that a day is published without that campaign.
"""

import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from jobs import catalogue
from jobs.errors import UserError

# What a campaign may change, per customer over its window.
METRICS = {
    "orders": "orders per customer",
    "net": "money after discounts and returns per customer",
    "visits": "sessions per customer",
    "conversion": "share of customers with an order",
    "churn": "share of customers without an order",
}
LOWER_IS_BETTER = ("churn",)
OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in")
TEXT_OPERATORS = ("=", "!=", "in")
SCORES = ("expected_net_365d", "p_alive")  # columns of scores.customer_values that a condition may name
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Condition(NamedTuple):
    """What a customer must fulfil, as of the day before the campaign. A value that is not known fulfils nothing."""

    column: str
    operator: str  # of OPERATORS
    value: float | str | tuple[float | str, ...]  # several with "in"


@dataclass(frozen=True)
class Campaign:
    """One campaign."""

    name: str
    first_day: date
    last_day: date
    metric: str  # of METRICS
    smallest_effect: float  # that matters, as a share of the metric's mean
    holdout: float  # share of the audience that is left alone
    holdout_by_segment: dict[int, float] = field(default_factory=dict)  # where it is another share
    segments: tuple[int, ...] = ()  # none: all
    where: tuple[Condition, ...] = ()
    pre_days: int = 90  # before the first day, on which customers are compared with themselves

    @property
    def days(self) -> int:
        """The length of the window."""
        return (self.last_day - self.first_day).days + 1

    @property
    def eve(self) -> date:
        """The day before the first day."""
        return self.first_day - timedelta(days=1)

    def share_of(self, segment_id: int) -> float:
        """Return the share of a segment's customers that is held out."""
        return self.holdout_by_segment.get(segment_id, self.holdout)


class Campaigns(NamedTuple):
    """The campaigns of a folder in the order of their names, and a line for each file that is wrong, by file."""

    declared: tuple[Campaign, ...]
    problems: dict[str, str]

    def find(self, name: str) -> Campaign:
        """Return a campaign by name. Raises UserError where there is none, or a file that could hold it is wrong."""
        for campaign in self.declared:
            if campaign.name == name:
                return campaign
        if self.problems:
            raise UserError(f"campaigns: {next(iter(self.problems.values()))}")
        names = ", ".join(campaign.name for campaign in self.declared) or "none is declared"
        raise UserError(f"campaigns: no campaign '{name}'; known: {names}")


def read_campaigns(folder: str) -> Campaigns:
    """Return what the .toml files of a folder declare; nothing where there is no such folder."""
    declared: dict[str, Campaign] = {}
    problems = {}
    for path in sorted(Path(folder).glob("*.toml")):
        try:
            campaign = _parse_campaign(path.read_text())
            if campaign.name in declared:
                raise ValueError(f"another file declares the campaign '{campaign.name}' too. Choose another name")
        except (ValueError, tomllib.TOMLDecodeError) as error:
            problems[path.name] = f"{path}: {error}"
        else:
            declared[campaign.name] = campaign
    return Campaigns(tuple(declared[name] for name in sorted(declared)), problems)


def _parse_campaign(text: str) -> Campaign:
    """Return the campaign of a file. Raises ValueError for what is wrong, in one line."""
    values: dict[str, Any] = tomllib.loads(text)
    if unknown := sorted(set(values) - set(_PARSERS)):
        raise ValueError(f"unknown key '{unknown[0]}'. Known: {', '.join(_PARSERS)}")
    required = [f.name for f in fields(Campaign) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"{', '.join(missing)} is missing. Every campaign states it")
    campaign = Campaign(**{name: _PARSERS[name](name, value) for name, value in values.items()})
    if campaign.first_day > campaign.last_day:
        raise ValueError(f"last_day {campaign.last_day} is before first_day {campaign.first_day}")
    return campaign


def _parse_name(key: str, value: Any) -> str:
    if not (isinstance(value, str) and _NAME.fullmatch(value)):
        raise ValueError(f"{key} = {value!r} must have lower-case letters, digits and underscores, and begin with a letter")
    return value


def _parse_day(key: str, value: Any) -> date:
    if type(value) is not date:
        raise ValueError(f"{key} = {value!r} must be a day, as in 2026-12-01")
    return value


def _parse_metric(key: str, value: Any) -> str:
    if value not in METRICS:
        raise ValueError(f"{key} = {value!r} does not exist. Choose one of {', '.join(METRICS)}")
    return value


def _parse_share(key: str, value: Any) -> float:
    """Return a share of customers to hold out; without anybody on either side there is nothing to compare."""
    if not (_is_number(value) and 0 < value < 1):
        raise ValueError(f"{key} = {value!r} must be above 0 and below 1: without a holdout no effect can be measured")
    return float(value)


def _parse_shares(key: str, value: Any) -> dict[int, float]:
    if not isinstance(value, dict) or not all(segment.isdigit() for segment in value):
        raise ValueError(f"{key} = {value!r} must name segments by number, as in {{ 3 = 0.2 }}")
    return {int(segment): _parse_share(f"{key}.{segment}", share) for segment, share in value.items()}


def _parse_effect(key: str, value: Any) -> float:
    if not (_is_number(value) and 0 < value < float("inf")):
        raise ValueError(f"{key} = {value!r} must be above 0: a share of the mean, as in 0.1")
    return float(value)


def _parse_days(key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{key} = {value!r} must be a number of days of at least 1")
    return value


def _parse_segments(key: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(type(segment) is int and segment >= 0 for segment in value):
        raise ValueError(f"{key} = {value!r} must be numbers of segments, as in [3, 5]")
    return tuple(value)


def _parse_where(key: str, value: Any) -> tuple[Condition, ...]:
    if not isinstance(value, list):
        raise ValueError(f'{key} must be a list of conditions, as in [["orders_365d", ">=", 2]]')
    return tuple(_parse_condition(condition) for condition in value)


def _parse_condition(condition: Any) -> Condition:
    """Return a condition on a feature, an attribute or a score: numbers are compared with numbers, texts with texts."""
    if not (isinstance(condition, list) and len(condition) == 3):
        raise ValueError(f"where: {condition!r} must have a column, an operator and a value")
    column, operator, value = condition
    attributes = [attribute.name for attribute in catalogue.ATTRIBUTES]
    if column not in (*attributes, *SCORES, *(feature.name for feature in catalogue.FEATURES)):
        raise ValueError(f"where: no column {column!r}. docs/features.md lists the features; also {', '.join(SCORES)}")
    if operator not in OPERATORS:
        raise ValueError(f"where: {column}: no operator {operator!r}. Choose one of {' '.join(OPERATORS)}")
    if column in attributes and operator not in TEXT_OPERATORS:
        raise ValueError(f"where: {column} {operator} {value!r}: a column of texts takes {' '.join(TEXT_OPERATORS)}")
    values = value if operator == "in" else [value]
    is_right = (lambda v: isinstance(v, str)) if column in attributes else _is_number
    if not (isinstance(values, list) and values and all(map(is_right, values))):
        kind = "texts" if column in attributes else "numbers"
        raise ValueError(f"where: {column} {operator} {value!r}: the column has {kind}, and only 'in' takes a list")
    return Condition(column, operator, tuple(values) if operator == "in" else value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_PARSERS = {
    "name": _parse_name,
    "first_day": _parse_day,
    "last_day": _parse_day,
    "metric": _parse_metric,
    "smallest_effect": _parse_effect,
    "holdout": _parse_share,
    "holdout_by_segment": _parse_shares,
    "segments": _parse_segments,
    "where": _parse_where,
    "pre_days": _parse_days,
}
