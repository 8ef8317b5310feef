"""The key under which personal fields are hashed: a lake remembers its fingerprint, so that each customer keeps one hash."""

import hmac

from jobs.config.settings import read_secret
from jobs.config.source_mapping import Source
from jobs.errors import UserError
from jobs.storage.files import create_if_missing, read_if_exists

_FILE = "hashing_key.fingerprint"
_TEXT = b"shoal: fingerprint of the key under which personal fields are hashed"


def read_key(root: str, source: Source) -> str:
    """Return the key for the personal fields of a source, '' where it has none.

    Raises UserError for a missing or short key, and for another one than the lake's hashes were made with.
    """
    if not any(mapping.is_personal for mapping in source.all_mappings()):
        return ""
    secret = read_secret()
    stored = read_if_exists(f"{root}/{_FILE}")
    if stored is not None and stored.decode().strip() != _fingerprint(secret):
        raise UserError(
            f"land: SHOAL_SECRET is another key than the one that hashed the personal fields in {root}; under it each customer "
            "would become another. Set the earlier key again, or land into an empty lake"
        )
    return secret


def remember_key(root: str, secret: str) -> None:
    """Write the fingerprint of the key into a lake that has none yet."""
    if secret:
        create_if_missing(f"{root}/{_FILE}", _fingerprint(secret).encode())


def _fingerprint(secret: str) -> str:
    return hmac.digest(secret.encode(), _TEXT, "sha256").hex()
