"""Texts as they are embedded, and the keyed hash by which tables name them: no table of features holds a text."""

import hmac
import os
import unicodedata

import polars as pl

from jobs.config.settings import read_secret

_DOMAIN = b"text\0"  # so that the key of an e-mail address that was searched for is not the hash of a customer's address


def normalize_texts(texts: pl.Series, max_characters: int) -> pl.Series:
    """Return the beginnings of texts, in one Unicode form and with single spaces; null where nothing is left.

    >>> normalize_texts(pl.Series(["  Blue \\n mug ", "cafe\\u0301", " ", None, "abcdef"]), 5).to_list()
    ['Blu', 'café', None, None, 'abcde']
    """
    beginnings = texts.str.head(max_characters)
    distinct = beginnings.unique().drop_nulls()
    normal = [" ".join(unicodedata.normalize("NFC", text).split()) or None for text in distinct]
    return beginnings.replace_strict(distinct, pl.Series(normal, dtype=pl.String), default=None, return_dtype=pl.String)


def find_secret() -> str:
    """Return the key of this process for hash_texts, '' where it has none, which is an error only where there are texts."""
    return os.environ.get("SHOAL_SECRET", "")


def hash_texts(texts: pl.Series, secret: str) -> pl.Series:
    """Return the first half of the HMAC-SHA256 of each normalized text, as 32 hex digits; null for null.

    Raises UserError where there is a text, and the key is missing or too short to be one.
    """
    distinct = texts.unique().drop_nulls()
    if len(distinct):
        read_secret({"SHOAL_SECRET": secret}, "features.texts names texts by a keyed hash")
    keys = [hmac.digest(secret.encode(), _DOMAIN + text.encode(), "sha256").hex()[:32] for text in distinct]
    return texts.replace_strict(distinct, pl.Series(keys, dtype=pl.String), default=None, return_dtype=pl.String)
