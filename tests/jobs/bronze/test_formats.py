"""The formats of source files: which rows of text each becomes, and which lines are malformed."""

import gzip
import io
import zipfile
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet
import pytest

from jobs.bronze import _reading
from jobs.bronze.formats import content
from jobs.config.source_mapping import TableMapping
from jobs.errors import UserError

CAFE = "id,place\n1,café €\n"


def read(folder, name, data, used, max_gib=1.0, **mapping):
    """(row, values of the used columns) of every row; of a malformed one its text and line."""
    (folder / name).write_bytes(data)
    table = TableMapping("events", "*", {}, max_gib=max_gib, **mapping)
    assert set(used) <= set(_reading.read_header(str(folder), name, table))
    rows = []
    for batch in _reading.read_rows(str(folder), name, table, used, "of the tests"):
        for row in batch.to_pylist():
            extra = dict(row["_extra"])
            malformed = (extra["_malformed"], extra["_line"]) if "_malformed" in extra else None
            rows.append((row["_row"], *(malformed or (row[column] for column in used))))
    return sorted(rows, key=lambda row: row[0])


@pytest.mark.parametrize(
    ("case", "text", "mapping", "expected"),
    [
        ("two colons", "a::b\n1::x:y\n2::\n", {"delimiter": "::"}, [(1, "1", "x:y"), (2, "2", None)]),
        ("a quoted delimiter of two", 'a, b\n"1, 2", x,y\n', {"delimiter": ", "}, [(1, "1, 2", "x,y")]),
        ("an odd number of colons", "a::b\n1:::\n", {"delimiter": "::"}, [(1, "1", ":")]),
        ("no quotes", 'a\tb\n"1\t2\n3\t5" nail\n', {"delimiter": "\t", "quote": ""}, [(1, '"1', "2"), (2, "3", '5" nail')]),
        ("single quotes", "a,b\n'1,2',\"\n", {"quote": "'"}, [(1, "1,2", '"')]),
        ("escapes", 'a,b\n"1\\",2",3\\,4\n', {"escape": "\\"}, [(1, '1",2', "3,4")]),
        ("an escaped line break", "a,b\n1,x\\\ny\n2,z\n", {"escape": "\\", "quote": ""}, [(1, "1", "x\ny"), (2, "2", "z")]),
        ("comments", "# made today\na,b\n#x\n1,#2\n\n#\n3,4\n", {"comment": "#"}, [(1, "1", "#2"), (2, "3", "4")]),
        ("a quoted line like a comment", 'a,b\n1,"x\n#y"\n', {"comment": "#"}, [(1, "1", "x\n#y")]),
        ("no header line", "1,2\n3,4\n", {"header": ("a", "b")}, [(1, "1", "2"), (2, "3", "4")]),
        ("no row and no header line", "", {"header": ("a", "b")}, []),
        ("line ends of old Macs", "a,b\r1,2\r3,4\r", {}, [(1, "1", "2"), (2, "3", "4")]),
    ],
)  # fmt: skip
def test_delimited_text_has_the_marks_that_its_mapping_names(tmp_path, monkeypatch, case, text, mapping, expected):
    assert read(tmp_path, "f.csv", text.encode(), ["a", "b"], **mapping) == expected
    monkeypatch.setattr(content, "BLOCK_BYTES", 16)
    monkeypatch.setattr(content, "FIRST_BYTES", 1)
    assert read(tmp_path, "f.csv", text.encode(), ["a", "b"], **mapping) == expected, "in small blocks"


@pytest.mark.parametrize(
    ("case", "text", "expected"),
    [
        ("a lone quote and one that closes in a field of another line", 'a\tb\tc\n1\t"red\tx\n2\tgreen\tx\n3\t"9" book\tx\n',
         [(1, '1\t"red\tx', "2"), (2, "2", "green"), (3, "3", "9 book")]),
        ("a lone quote and one that closes another line's field", 'a\tb\tc\n1\t"red\tx\n2\tgreen\tx\n3\tbook 9"\tx\n',
         [(1, '1\t"red\tx', "2"), (2, "2", "green"), (3, "3", 'book 9"')]),
        ("quotes at both ends of a row", 'a\tb\tc\n1\t"red\tx\n2\tbook\t9"\n', [(1, '1\t"red\tx', "2"), (2, "2", "book")]),
        ("a quote that is never closed", 'a\tb\tc\n1\tred\tx\n2\t"blue\tx\n3\tgrey\tx',
         [(1, "1", "red"), (2, '2\t"blue\tx', "3"), (3, "3", "grey")]),
        ("line breaks in an address", 'a\tb\tc\n1\t"Mill Lane 2\nLeeds\n\nUK"\tx\n2\tgrey\tx\n',
         [(1, "1", "Mill Lane 2\nLeeds\n\nUK"), (2, "2", "grey")]),
        ("line breaks with delimiters", 'a\tb\tc\n1\t"x\ty\tz\nLeeds"\tx\n', [(1, "1", "x\ty\tz\nLeeds")]),
        ("a text whose lines have delimiters", 'a\tb\tc\n17\tx\t"Hello\nbest\twishes\tAnn"\n', [(1, "17", "x")]),
    ],
)  # fmt: skip
def test_a_stray_quote_makes_its_own_line_malformed_and_swallows_no_other(tmp_path, capsys, case, text, expected):
    assert read(tmp_path, "f.tsv", text.encode(), ["a", "b"], delimiter="\t") == expected
    n_malformed = sum(row[2].isdigit() for row in expected)
    printed = capsys.readouterr().out
    assert printed.count("does not close at the end of its field; kept as malformed rows") == n_malformed
    assert printed.count("text follows a closing quote") == ('"9" book' in text)


def test_a_stray_quote_swallows_no_row_of_another_length(tmp_path):
    text = b'a\tb\tc\n1\t"red\tx\n2\tgreen\n3\t"9" book\tx\n'
    assert read(tmp_path, "f.tsv", text, ["a", "b"], delimiter="\t") == [
        (1, '1\t"red\tx', "2"), (2, "2\tgreen", "3"), (3, "3", "9 book"),
    ]  # fmt: skip


def test_a_quoted_line_break_at_the_end_of_a_block_keeps_its_line_feed(tmp_path, monkeypatch):
    texts = ["x" * n + "\r\ny" for n in range(20)]
    monkeypatch.setattr(content, "BLOCK_BYTES", 32)
    data = "a,b\r\n" + "".join(f'"{text}",1\r\n' for text in texts)
    assert [row[1] for row in read(tmp_path, "f.csv", data.encode(), ["a"])] == texts


def test_a_line_number_counts_every_line_of_the_file(tmp_path):
    text = '#\na,b\n1,"x\ny"\n\n2\n'
    assert read(tmp_path, "f.csv", text.encode(), ["a"], comment="#") == [(1, "1"), (2, "2", "6")]


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig", "iso-8859-15"])
def test_any_encoding_is_read(tmp_path, encoding):
    assert read(tmp_path, "f.csv", CAFE.encode(encoding), ["place"], encoding=encoding) == [(1, "café €")]


def zip_files(**members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/"), text)
    return packed.getvalue()


def test_archives_hold_one_file(tmp_path):
    assert read(tmp_path, "f.CSV.GZ", gzip.compress(CAFE.encode()), ["id"]) == [(1, "1")]
    assert read(tmp_path, "f.zip", zip_files(folder__="", folder__a=CAFE), ["id"]) == [(1, "1")]
    for name, data, reason in (
        ("f.zip", zip_files(a=CAFE, b=CAFE), "holds 2 files"),
        ("f.zip", zip_files(folder__=""), "holds 0 files"),
        ("f.zip", zip_files(a=CAFE)[:40], "truncated or damaged"),
        ("f.csv.gz", gzip.compress(b"id\n" + b"1\n" * 100_000), "more than 0.0001 GiB when it is unpacked; set max_unpacked_gib"),
        ("f.zip", zip_files(a="id\n" + "1\n" * 100_000), "more than 0.0001 GiB when it is unpacked; set max_unpacked_gib"),
    ):
        with pytest.raises(UserError, match=rf"^land: file {name}.*{reason}"):
            read(tmp_path, name, data, ["id"], max_gib=0.0001)


def test_a_header_of_the_mapping_has_as_many_columns_as_the_rows(tmp_path):
    with pytest.raises(UserError, match=r"line 2: 2 fields, and header names 3 columns"):
        read(tmp_path, "f.csv", b"\n1,2\n", ["a"], header=("a", "b", "c"))


LINES = (
    '{"id": 12345678901234567890, "price": 1.10, "tags": ["x", 2.50, null], "who": {"name": "Zoë", "x": 1e5}}\n\n'
    '{"id": "2", "b": true}\n'
)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("lines", LINES),
        ("an array", "[" + LINES.replace("\n\n", ",\n") + "]"),
        ("an array of several lines", "\n[\n" + LINES.replace("\n\n", ",").replace(", ", ",\n").replace(": ", " :\n") + "\n]\n"),
    ],
)
def test_json_keeps_digits_as_written_and_its_columns_are_those_of_all_objects(tmp_path, monkeypatch, case, text):
    expected = [
        (1, "12345678901234567890", "1.10", '["x",2.50,null]', '{"name":"Zoë","x":1e5}', None),
        (2, "2", None, None, None, "true"),
    ]  # fmt: skip
    columns = ["id", "price", "tags", "who", "b"]
    assert read(tmp_path, "f.json.gz", gzip.compress(text.encode()), columns, format="json") == expected
    monkeypatch.setattr(content, "FIRST_BYTES", 1)
    monkeypatch.setattr(
        content.SourceFile, "read_blocks", lambda *_: (text.encode()[n : n + 7] for n in range(0, len(text) + 9, 7))
    )
    assert read(tmp_path, "f.json", text.encode(), columns, format="json") == expected, "in small blocks"


def test_a_bad_line_of_json_is_malformed_and_a_broken_array_is_refused(tmp_path):
    text = b'{"a": 1}\n\n{"a": 2\n7\n' + b"[" * 100_000 + b'\n{"a": 3}\n{"a": "\\ud83d"}\n{"a": "\\uD83D\\ude00"}\n'
    rows = read(tmp_path, "f.json", text, ["a"], format="json")
    assert [(row[0], row[-1]) for row in rows] == [(1, "1"), (2, "3"), (3, "4"), (4, "5"), (5, "3"), (6, "7"), (7, "😀")]
    assert rows[1] == (2, '{"a": 2', "3")
    for data, reason in ((b'[{"a": 1},\n{"a": 2}', "line 2: the array of JSON breaks off"), (b"id,b\n1,2\n", "no line of it is")):
        with pytest.raises(UserError, match=reason):
            read(tmp_path, "f.json", data, [], format="json")


def test_nested_parquet_is_json_text_and_values_keep_all_their_digits(tmp_path):
    param = pa.struct([("key", pa.string()), ("value", pa.struct([("n", pa.int64()), ("d", pa.decimal128(9, 2))]))])
    columns = {
        "params": pa.array([[{"key": "page", "value": {"n": 2**60, "d": Decimal("1.10")}}], None, []], pa.list_(param)),
        "at": pa.array([datetime(2024, 3, 1, 9, tzinfo=UTC), None, None], pa.timestamp("us", "Europe/Berlin")),
        "amount": pa.array([Decimal("0.00000001"), Decimal("12.50000000"), None], pa.decimal128(20, 8)),
        "code": pa.array([b"mug", b"\xff", None], pa.binary()),
        "names": pa.array([[("en", "cup")], [], None], pa.map_(pa.string(), pa.string())),
    }
    packed = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), packed)
    assert read(tmp_path, "f.parquet", packed.getvalue(), list(columns), format="parquet") == [
        (1, '[{"key":"page","value":{"n":1152921504606846976,"d":"1.10"}}]', "2024-03-01 09:00:00.000000Z", "0.00000001", "mug",
         '{"en":"cup"}'),
        (2, None, None, "12.50000000", "\\xff", "{}"),
        (3, "[]", None, None, None, None),
    ]  # fmt: skip


def test_a_line_of_text_fits_the_pattern_or_is_malformed(tmp_path):
    pattern = r'(?P<ip>\S+) \[(?P<at>[^]]+)\] "(?P<page>[^"]*)"'
    text = b'#log\n1.1.1.1 [x] "/a"\r\n\n2.2.2.2 [y] ""\n2.2.2.2 [y] "/c" more\nbad'
    assert read(tmp_path, "f.log", text, ["ip", "page"], format="text", pattern=pattern, comment="#") == [
        (1, "1.1.1.1", "/a"), (2, "2.2.2.2", None), (3, '2.2.2.2 [y] "/c" more', "5"), (4, "bad", "6"),
    ]  # fmt: skip


def test_a_file_that_vanishes_is_named(tmp_path):
    for mapping in ({}, {"format": "json"}, {"format": "parquet"}, {"format": "text", "pattern": "(?P<a>.*)"}):
        with pytest.raises(UserError, match=r"^land: file gone.csv: it was there a moment ago and is gone"):
            _reading.read_header(str(tmp_path), "gone.csv", TableMapping("events", "*", {}, **mapping))
