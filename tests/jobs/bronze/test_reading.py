"""Reading one file: its rows, or one line that says what is wrong. No Spark is needed."""

import gzip

import pytest

from jobs.bronze import _reading
from jobs.bronze._personal import hash_personal
from jobs.config.source_mapping import TableMapping
from jobs.errors import UserError

NAME = "f.csv"
ZIPPED = gzip.compress(b"a,b\n" + b"1,2\n" * 50_000)


def read(folder, content, name=NAME, **mapping):
    """(row, a, other columns) of every row, with `a` mapped."""
    (folder / name).write_bytes(content)
    batches = _reading.read_rows(str(folder), name, TableMapping("events", "*", {}, **mapping), ["a"], "a key of the tests alone")
    rows = [(row["_row"], row["a"], dict(row["_extra"])) for batch in batches for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row[0])


@pytest.mark.parametrize(
    ("case", "content", "mapping", "expected"),
    [
        ("columns in another order", b"b,a\n2,1\n", {}, [(1, "1", {"b": "2"})]),
        ("a new column", b"a,b,c\n1,2,3\n", {}, [(1, "1", {"b": "2", "c": "3"})]),
        ("another delimiter", b"a;b\n1;2,5\n", {"delimiter": ";"}, [(1, "1", {"b": "2,5"})]),
        ("a header alone", b"a,b\n", {}, []),
        ("a header without a line end", b"a,b", {}, []),
        ("a byte order mark", b"\xef\xbb\xbfa,b\n1,2\n", {}, [(1, "1", {"b": "2"})]),
        ("Latin-1 by mapping", "a,b\né,2\n".encode("latin-1"), {"encoding": "latin-1"}, [(1, "é", {"b": "2"})]),
        ("UTF-16 by mapping", "a,b\né,2\n".encode("utf-16"), {"encoding": "utf-16"}, [(1, "é", {"b": "2"})]),
        ("line ends of Windows", b"a,b\r\n1,2\r\n", {}, [(1, "1", {"b": "2"})]),
        ("quoted line breaks", b'a,b\n"x\ny",2\n3,4\n', {}, [(1, "x\ny", {"b": "2"}), (2, "3", {"b": "4"})]),
        ("a line break in the header", b'"b\nc",a\n2,1\n', {}, [(1, "1", {"b\nc": "2"})]),
        ("control characters and NUL", b"a,b\n\x01x\x00,\x00\n", {}, [(1, "\x01x\x00", {"b": "\x00"})]),
        ("blank lines", b"a,b\n\n1,2\n\n", {}, [(1, "1", {"b": "2"})]),
        ("a short row", b"a,b\n1\n3,4\n", {}, [(1, None, {"_malformed": "1", "_line": "2"}), (2, "3", {"b": "4"})]),
        ("an open quote", b'a,b\n1,2\n"3,4\n5,6\n', {},
         [(1, "1", {"b": "2"}), (2, None, {"_malformed": '"3,4', "_line": "3"}), (3, "5", {"b": "6"})]),
        ("a dropped column", b"a,b\n1,2\n", {"drop": ("b",)}, [(1, "1", {})]),
    ],
)  # fmt: skip
def test_a_readable_file_gives_its_rows(tmp_path, case, content, mapping, expected):
    assert read(tmp_path, content, **mapping) == expected


@pytest.mark.parametrize(
    ("case", "content", "name", "mapping", "expected"),
    [
        ("nothing", b"", NAME, {}, "f.csv: it is empty; it needs a header"),
        ("blank lines only", b"\n\r\n", NAME, {}, "f.csv: it is empty; it needs a header"),
        ("another delimiter", b"a;b\n1;2\n", NAME, {}, "f.csv, line 1: one column, with ';' in its name; set delimiter = ';'"),
        ("a column twice", b"a,a\n1,2\n", NAME, {}, "f.csv, line 1: columns 1 and 2 of the header have the same name"),
        ("a column without a name", b"a,,b\n1,2,3\n", NAME, {}, "f.csv, line 1: column 2 of the header has no name"),
        ("bytes that are no text", b"a,b\n1,2\n1,\xff\n", NAME, {}, "f.csv, line 3: not utf8 text"),
        ("such bytes in a short row", b"a,b\n1,2\n\xff\n", NAME, {}, "f.csv, line 3: not utf8 text"),
        ("such bytes late", b"a,b\n" + b"1,2\n" * 99_999 + b"\xff,\n", NAME, {}, "f.csv, line 100001: not utf8 text"),
        ("a header with an open quote", b'"a,b\n1,2\n', NAME, {}, "f.csv, line 1: a quote is opened and never closed; set quote"),
        ("a cut archive", ZIPPED[:-9], "f.csv.gz", {}, "f.csv.gz, line 4[0-9]{4}: the compressed file is truncated"),
        ("an archive cut in its header", ZIPPED[:2], "f.csv.gz", {}, "f.csv.gz, line 1: the compressed file is truncated"),
        ("no archive", b"a,b\n1,2\n", "f.csv.gz", {}, "f.csv.gz, line 1: the compressed file is .*damaged"),
        ("no Parquet", b"PAR1 nothing PAR1", "f.parquet", {"format": "parquet"}, "f.parquet: cannot be read"),
    ],
)  # fmt: skip
def test_an_unreadable_file_is_refused_with_file_and_line(tmp_path, case, content, name, mapping, expected):
    with pytest.raises(UserError, match=expected) as raised:
        read(tmp_path, content, name, **mapping)
    assert "\n" not in str(raised.value)


def test_an_email_address_has_one_key_in_any_case_and_with_blanks_but_not_without_its_dots():
    keys = [hash_personal(mail, "email", "s") for mail in ("a.b@x.org", " A.B@X.ORG ", "ab@x.org")]
    assert keys[0] == keys[1] != keys[2]
