"""conf/activation.toml: which customers other systems are told of, where, and which scores count as high or low."""

import math
import os
import re
import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobs.errors import UserError

SEGMENT_ENTERED, SEGMENT_LEFT = "segment_entered", "segment_left"
THRESHOLD_REACHED, THRESHOLD_LEFT = "threshold_reached", "threshold_left"
EVENTS = (SEGMENT_ENTERED, SEGMENT_LEFT, THRESHOLD_REACHED, THRESHOLD_LEFT)
HORIZONS = (30, 90, 365)
VALUES = ("p_alive", *(f"expected_{what}_{days}d" for what in ("orders", "net") for days in HORIZONS))  # scores.customer_values
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_LEAST_SECRET = 16  # characters, below which a key can be guessed


@dataclass(frozen=True)
class Threshold:
    """Customers with a score above, or below, a number: a column of scores.customer_values or a probability of an outcome."""

    name: str
    column: str | None
    outcome: str | None
    above: float | None
    below: float | None


@dataclass(frozen=True)
class Webhook:
    """Where and about what another system is told. `segments` and `thresholds` are all where None."""

    name: str
    address: str
    secret_variable: str
    events: tuple[str, ...] = EVENTS
    segments: tuple[int, ...] | None = None
    thresholds: tuple[str, ...] | None = None
    batch_size: int = 500
    timeout_seconds: float = 10.0
    give_up_seconds: float = 300.0

    def read_secret(self, environment: dict[str, str] | None = None) -> str:
        """Return the key that signs the requests. Raises UserError where it is not set, or too short to be one."""
        secret = (os.environ if environment is None else environment).get(self.secret_variable, "")
        if len(secret) < _LEAST_SECRET:
            wrong = f"has {len(secret)} characters, and must have at least {_LEAST_SECRET}" if secret else "is not set"
            raise UserError(
                f"notify: webhook {self.name}: its secret, the variable {self.secret_variable}, {wrong};"
                " set it to the text that the receiver checks signatures with"
            )
        return secret


@dataclass(frozen=True)
class Activation:
    """One activation file."""

    thresholds: tuple[Threshold, ...] = ()
    webhooks: tuple[Webhook, ...] = ()


def load_activation(path: str) -> Activation:
    """Return what the file at `path` declares. Raises UserError with file and key for anything it does not know."""
    try:
        values = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError):
        raise UserError(f"activation: {path} cannot be read; the setting `activation` names the file") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"activation: {path}: {error}") from None
    _check_keys(path, "", values, ("threshold", "webhook"))
    thresholds = tuple(_read_threshold(path, entry) for entry in _list_entries(path, "threshold", values))
    names = [threshold.name for threshold in thresholds]
    webhooks = tuple(_read_webhook(path, entry, names) for entry in _list_entries(path, "webhook", values))
    return Activation(thresholds, webhooks)


def _list_entries(path: str, kind: str, values: dict) -> list[dict]:
    """Return the tables [[kind]], each with a name of its own."""
    entries = values.get(kind, [])
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise UserError(f"activation: {path}: write [[{kind}]] with two brackets")
    names = [entry.get("name") for entry in entries]
    for name in names:
        if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name)):
            raise UserError(f"activation: {path}: {kind}: name = {name!r} must be letters, digits, _ and -")
        if names.count(name) > 1:
            raise UserError(f"activation: {path}: two [[{kind}]] are named {name}; give each a name of its own")
    return entries


def _read_threshold(path: str, entry: dict) -> Threshold:
    place = f"threshold {entry['name']}"
    _check_values(path, place, entry, _THRESHOLD_RULES)
    for first, second in (("column", "outcome"), ("above", "below")):
        if (first in entry) == (second in entry):
            raise UserError(f"activation: {path}: {place}: write {first} or {second}, and not both")
    limits = {side: float(entry[side]) if side in entry else None for side in ("above", "below")}
    return Threshold(entry["name"], entry.get("column"), entry.get("outcome"), **limits)


def _read_webhook(path: str, entry: dict, thresholds: Collection[str]) -> Webhook:
    place = f"webhook {entry['name']}"
    _check_values(path, place, entry, _WEBHOOK_RULES)
    for key in ("address", "secret_variable"):
        if key not in entry:
            raise UserError(f"activation: {path}: {place}: {key} is missing")
    for name in entry.get("thresholds", ()):
        if name not in thresholds:
            raise UserError(
                f"activation: {path}: {place}: there is no [[threshold]] {name}; known: {', '.join(thresholds) or 'none'}"
            )
    return Webhook(**{key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()})


def _is_number(least: float, most: float = math.inf) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and least <= v <= most and math.isfinite(v)


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(type(item) is kind for item in value)


def _is_address(value: Any) -> bool:
    """
    >>> [_is_address(text) for text in ("https://a.example/x", "http://a.example", "http://localhost:80/", "file:///x", "https://")]
    [True, False, True, False, False]
    """
    try:
        parts = urlsplit(value)
        is_secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in THIS_MACHINE)
        return is_secure and bool(parts.hostname) and not (parts.username or parts.password) and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        return False


_THRESHOLD_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: True, ""),
    "column": (lambda value: value in VALUES, f"one of {', '.join(VALUES)}"),
    "outcome": (lambda value: isinstance(value, str) and bool(value), "a name of scores.customer_outcomes"),
    "above": (_is_number(-math.inf), "a number"),
    "below": (_is_number(-math.inf), "a number"),
}
_WEBHOOK_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: True, ""),
    "address": (_is_address, "an https address without a password (http only to this machine)"),
    "secret_variable": (
        lambda value: isinstance(value, str) and bool(re.fullmatch(r"(?!SHOAL_)[A-Za-z_]\w*", value)),
        "the name of an environment variable that does not begin with SHOAL_, which are settings",
    ),
    "events": (lambda value: _is_list_of(str)(value) and set(value) <= set(EVENTS), f"a list of {', '.join(EVENTS)}"),
    "segments": (_is_list_of(int), "a list of segment numbers"),
    "thresholds": (_is_list_of(str), "a list of names of [[threshold]]"),
    "batch_size": (lambda value: type(value) is int and 1 <= value <= 10_000, "a whole number from 1 to 10000"),
    "timeout_seconds": (_is_number(0.1, 300), "a number from 0.1 to 300"),
    "give_up_seconds": (_is_number(0, 3600), "a number from 0 to 3600"),
}


def _check_values(path: str, place: str, entry: dict, rules: dict) -> None:
    """Raise UserError for an unknown key or a value that its rule refuses."""
    _check_keys(path, f"{place}: ", entry, rules)
    for key, value in entry.items():
        is_allowed, description = rules[key]
        if not is_allowed(value):
            # An address may have a secret in it.
            shown = "" if key == "address" else f" = {value!r}"
            raise UserError(f"activation: {path}: {place}: {key}{shown} must be {description}")


def _check_keys(path: str, place: str, entry: dict, allowed: Collection[str]) -> None:
    for key in entry:
        if key not in allowed:
            raise UserError(f"activation: {path}: {place}unknown key '{key}'; known: {', '.join(allowed)}")
