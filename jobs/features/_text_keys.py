"""Texts as they are embedded, and the keyed hash by which tables name them: no table of features holds a text."""

import hmac
import unicodedata

import polars as pl

PURPOSE = "features.texts names texts by a keyed hash"  # of the key, for an error
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


def hash_texts(texts: pl.Series, secret: str) -> pl.Series:
    """Return the first half of the HMAC-SHA256 of each normalized text, as 32 hex digits; null for null."""
    distinct = texts.unique().drop_nulls()
    keys = [hmac.digest(secret.encode(), _DOMAIN + text.encode(), "sha256").hex()[:32] for text in distinct]
    return texts.replace_strict(distinct, pl.Series(keys, dtype=pl.String), default=None, return_dtype=pl.String)
