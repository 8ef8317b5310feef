"""The first rows of a file, and how it is to be read: format, encoding, delimiter, quotes and header, as its bytes look."""

import csv
import gzip
import io
import json
import re
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import UserError
from jobs.source_guess.values import is_number, is_time
from jobs.storage.files import open_filesystem

_BYTES = 256 << 10  # of text that are looked at
_ROWS = 300
_DELIMITERS = ("\t", ";", ",", "|", "::", "^", "~")
_ACCESS_LOG = (
    r'(?P<ip>\S+) \S+ (?P<user>\S+) \[(?P<time>[^]]+)\] "(?P<method>\S+) (?P<page>\S+)[^"]*" (?P<status>\d+) \S+'
    r'(?: "(?P<referrer>[^"]*)" "(?P<agent>[^"]*)")?.*'
)


@dataclass
class Sample:
    """The first rows of a file: texts by column, and the words of a mapping that read it. `notes` say what is not sure."""

    name: str
    columns: list[str]
    rows: list[dict[str, str]]
    words: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def values(self, column: str) -> list[str]:
        """Return the values of a column that are not blank."""
        return [text for row in self.rows if (text := (row.get(column) or "").strip()) not in ("", "-")]


def read_sample(root: str, name: str) -> Sample:
    """Return the first rows of a file. Raises UserError for a file that is damaged, and for rows that cannot be told apart."""
    try:
        content = _read_bytes(root, name)
        if content.startswith(b"PAR1"):
            return _sample_parquet(root, name)
    except (pa.ArrowException, OSError, EOFError, zlib.error, zipfile.BadZipFile):
        raise UserError(f"source: file {name}: it is damaged, or not what its name says; it is left out") from None
    encoding = _guess_encoding(content)
    text = content.decode(encoding, errors="ignore").removeprefix("\ufeff")
    sample = _sample_json(name, text) if text.lstrip()[:1] in ("{", "[") else None
    sample = sample or _sample_access_log(name, text) or _sample_delimited(name, text)
    if sample is None:
        raise UserError(f"source: file {name}: its rows cannot be told apart; it is left out")
    if encoding != "utf-8":
        sample.words["encoding"] = encoding
        sample.notes.append("encoding: the file is not UTF-8. Look whether letters with accents come out right.")
    return sample


def _read_bytes(root: str, name: str) -> bytes:
    filesystem, base = open_filesystem(root)
    with filesystem.open_input_file(f"{base}/{name}") as stored:
        if name.lower().endswith(".zip"):
            archive = zipfile.ZipFile(stored)
            members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
            return archive.open(members[0]).read(_BYTES) if members else b""
        if name.lower().endswith(".gz"):
            return gzip.GzipFile(fileobj=stored).read(_BYTES)
        return stored.read(_BYTES)


def _guess_encoding(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return "utf-8" if error.start > len(content) - 4 else "cp1252"  # the last character may be cut
    return "utf-8"


def _sample_parquet(root: str, name: str) -> Sample:
    filesystem, base = open_filesystem(root)
    with filesystem.open_input_file(f"{base}/{name}") as stored:
        batch = next(pq.ParquetFile(stored).iter_batches(_ROWS), None)
    records = [] if batch is None else batch.to_pylist()
    return _sample_objects(name, records, "parquet")


def _sample_json(name: str, text: str) -> Sample | None:
    decoder, position, objects = json.JSONDecoder(), text.find("{"), []
    while position >= 0 and len(objects) < _ROWS:
        try:
            content, position = decoder.raw_decode(text, position)
        except ValueError:
            break  # cut at the end of what was read, or a line that is none
        objects.append(content)
        position = text.find("{", position)
    return _sample_objects(name, objects, "json") if objects else None


def _sample_objects(name: str, objects: list[dict], file_format: str) -> Sample:
    """Return objects as rows; what lies in an object is named by its path, such as `customer.id`, and so is a list's element."""
    keys = list(dict.fromkeys(key for content in objects for key in content))
    lists = [k for k in keys if any(isinstance(o.get(k), list) and o[k] and isinstance(o[k][0], dict) for o in objects)]
    unnested = next((k for k in lists if re.search("item|line|product|position", k, re.I)), None)
    rows = []
    for content in objects:
        elements = content.get(unnested) if unnested else None
        for element in elements if isinstance(elements, list) and elements else [None]:
            rows.append(_flatten(content | ({unnested: element} if unnested else {})))
    columns = list(dict.fromkeys(column for row in rows for column in row))
    sample = Sample(name, columns, rows[:_ROWS], {"format": file_format})
    if unnested:
        sample.words["unnest"] = unnested
        sample.notes.append(f"unnest: each element of {unnested} becomes a row.")
    return sample


def _flatten(content: dict, prefix: str = "") -> dict[str, str]:
    row = {}
    for key, value in content.items():
        if isinstance(value, dict) and prefix.count(".") < 2:
            row |= _flatten(value, f"{prefix}{key}.")
        elif value is not None:
            row[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str).strip('"')
    return row


def _sample_access_log(name: str, text: str) -> Sample | None:
    lines = text.splitlines()[:_ROWS]
    matches = [match for line in lines if (match := re.fullmatch(_ACCESS_LOG, line))]
    if len(matches) < max(1, len(lines) // 2):
        return None
    rows = [{key: value or "" for key, value in match.groupdict().items()} for match in matches]
    return Sample(name, list(rows[0]), rows, {"format": "text", "pattern": _ACCESS_LOG})


def _sample_delimited(name: str, text: str) -> Sample | None:
    lines = [line for line in text[: text.rfind("\n") + 1 or None].splitlines() if line.strip()]
    comment = "#" if lines and lines[0].startswith("#") and not lines[-1].startswith("#") else ""
    lines = [line for line in lines if not (comment and line.startswith(comment))][:_ROWS]
    delimiter = _guess_delimiter(lines)
    if delimiter is None:
        return None
    quote = '"' if _is_quoted(lines, delimiter) else ""
    records = _split(lines, delimiter, quote)
    n_columns = Counter(map(len, records)).most_common(1)[0][0]
    words = {"delimiter": delimiter} if delimiter != "," else {}
    words |= ({} if quote else {"quote": ""}) | ({"comment": comment} if comment else {})
    notes = [] if quote else ["quote: a quote stands alone within a field, so quotes are taken for text."]
    has_header, reason = _guess_header(records)
    columns = [name.strip() for name in records[0]] if has_header else [f"column_{n}" for n in range(1, n_columns + 1)]
    if not has_header:
        words["header"] = columns
        notes.append(f"header: {reason}. Give the columns their names.")
    rows = [dict(zip(columns, record, strict=True)) for record in records[has_header:] if len(record) == len(columns)]
    return Sample(name, columns, rows, words, notes)


def _guess_delimiter(lines: list[str]) -> str | None:
    """Return the delimiter that gives most lines the same number of fields, and of such the one that gives most fields."""
    scores = {}
    for delimiter in _DELIMITERS:
        counts = Counter(len(record) for record in _split(lines, delimiter, '"'))
        plain = Counter(line.count(delimiter) + 1 for line in lines)
        n_fields, n_lines = max((counts | plain).items(), key=lambda item: (item[1], item[0]), default=(1, 0))
        if n_fields > 1 and n_lines >= 0.7 * len(lines):
            scores[delimiter] = (n_lines, n_fields)
    return max(scores, key=scores.get, default=None)


def _split(lines: list[str], delimiter: str, quote: str) -> list[list[str]]:
    if len(delimiter) > 1 or not quote:
        return [line.split(delimiter) for line in lines]
    return list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter))


def _is_quoted(lines: list[str], delimiter: str) -> bool:
    """Return whether quotes stand around fields; a file without quotes may have some later."""
    marked = [line for line in lines if '"' in line]
    if not marked:
        return True
    n_plain = Counter(len(record) for record in _split(lines, delimiter, "")).most_common(1)[0]
    n_quoted = Counter(len(record) for record in _split(lines, delimiter, '"')).most_common(1)[0]
    around = re.compile(rf'(?:^|{re.escape(delimiter)})"')
    return n_quoted[1] >= n_plain[1] and any(around.search(line) for line in marked)


def _guess_header(records: list[list[str]]) -> tuple[bool, str]:
    """Return whether the first record names the columns, and why not."""
    first = [cell.strip() for cell in records[0]]
    if typed := [cell for cell in first if is_number(cell) or is_time(cell)]:
        return False, f"the first line has {len(typed)} numbers or times, so it is a row"
    if len(set(first)) < len(first):
        return False, "the first line has a value twice, so it is a row"
    if "" in first:
        return False, "the first line has blank fields, so it is a row"
    return True, ""
