"""Personal fields: hashed or removed while a file is read, so that none is stored as it is."""

import hmac
import json
import unicodedata
from ipaddress import ip_address, ip_network

import pyarrow as pa
import pyarrow.compute as pc

from jobs.bronze._names import normalize_name, split_path
from jobs.config.file_reading import FileReading

_NO_VALUES = frozenset(("null", "none", "nan", "undefined", "n/a", "na", "(null)", "(none)", "(not set)"))  # in the place of one


def hash_text(text: str, secret: str) -> str:
    """Return the HMAC-SHA256 of a text (RFC 2104) as 64 hex digits."""
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()


def hash_personal(text: str, kind: str, secret: str) -> str | None:
    """Return the hash of a personal field; None where it holds no value, which must not make one customer of many."""
    plain = _normalize(text, kind)
    return hash_text(plain, secret) if plain else None


def _normalize(text: str, kind: str) -> str:
    """Return what is hashed of a field, '' for no value.

    >>> _normalize("\u200b Anna@Example.org\xa0", "email"), _normalize(" - ", "email"), _normalize("NULL", "email")
    ('anna@example.org', '', '')
    >>> [_normalize(text, "address") for text in (" 10.0.0.1 ", "2001:db8:7:1::2", "10.0.0.1, 10.9.9.9", "host.example")]
    ['10.0.0.0/24', '2001:db8:7::/48', '10.0.0.0/24', 'host.example']
    >>> _normalize(" Anna ", "text"), _normalize(" ", "text")
    (' Anna ', '')
    """
    if kind == "text":
        return text if text.strip() else ""
    visible = "".join(c for c in text if unicodedata.category(c) != "Cf").strip()
    if not any(c.isalnum() for c in visible) or visible.casefold() in _NO_VALUES:
        return ""
    if kind == "address":
        return _find_range(visible)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).casefold())


def _find_range(address: str) -> str:
    """Return the range of a network address, /24 or /48, as of one firm; of a chain of proxies that of the first."""
    first = address.split(",")[0].strip()
    try:
        bits = 24 if ip_address(first).version == 4 else 48
    except ValueError:
        return address
    return str(ip_network(f"{first}/{bits}", strict=False))


def protect_columns(columns: dict[str, pa.Array], reading: FileReading, secret: str) -> dict[str, pa.Array]:
    """Return the columns of a file without the dropped ones, and with hashes in the place of personal values.

    The names are those of the file; `customer.email` is the key `email` of the objects in a column `customer`.
    """
    kept = {name: column for name, column in columns.items() if name not in reading.drop}
    nested: dict[str, list[tuple[list[str], str | None]]] = {}
    for name, kind in [*reading.personal.items(), *((name, None) for name in reading.drop)]:
        if name in kept:
            kept[name] = _map_distinct(kept[name], lambda text, kind=kind: hash_personal(text, kind, secret))
        elif name not in columns and (path := split_path(name, list(kept))):
            nested.setdefault(path[0], []).append((path[1], kind))
    for name, paths in nested.items():
        kept[name] = _map_distinct(kept[name], lambda text, paths=paths: _protect_json(text, paths, secret))
    return kept


def _map_distinct(column: pa.Array, function) -> pa.Array:
    """Apply a function once to each distinct text of a column."""
    coded = column.dictionary_encode()
    values = [None if text is None else function(text) for text in coded.dictionary.to_pylist()]
    return pc.take(pa.array(values, pa.string()), coded.indices)


def _protect_json(text: str, paths: list[tuple[list[str], str | None]], secret: str) -> str:
    """Return JSON with the values at `paths` hashed, or removed where their kind is None; a text that is no JSON is hashed.

    >>> _protect_json('{"id": 7, "mail": "-", "tags": [{"phone": "1"}]}', [(["mail"], "email"), (["tags", "phone"], None)], "s")
    '{"id": 7, "mail": null, "tags": [{}]}'
    >>> len(_protect_json('Anna', [(["mail"], "email")], "s"))
    64
    """
    try:
        content = json.loads(text)
    except ValueError:
        return hash_text(text, secret)
    for path, kind in paths:
        content = _protect_value(content, path, kind, secret)
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _protect_value(content, path: list[str], kind: str | None, secret: str):
    if content is None:
        return None
    if isinstance(content, list):
        return [_protect_value(element, path, kind, secret) for element in content]
    if path and isinstance(content, dict):
        key = normalize_name(path[0])
        is_removed = kind is None and len(path) == 1
        return {
            name: _protect_value(value, path[1:], kind, secret) if normalize_name(name) == key else value
            for name, value in content.items()
            if not (is_removed and normalize_name(name) == key)
        }
    plain = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return hash_personal(plain, kind or "text", secret)  # also a plain value where an object was expected
