"""Landing: the files a source names become rows of a bronze table, each file once."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, date, datetime

import pyarrow as pa
from pyspark.errors import AnalysisException, PythonException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import settings as settings_module
from jobs.bronze import _reading, files
from jobs.errors import UserError
from jobs.lake import Lake, Table, log, union
from jobs.moments import event_time, moment
from jobs.settings import Clean, Settings
from jobs.source import COLUMNS, Mapping, Source, filesystem_of, find

UNDATED = date(1970, 1, 1)  # reference rows without a date hold for every day

# How a row finds the day it is about: its own time first, or the day of its file first.
_TIME = {
    "orders": "ordered_at",
    "products": "known_on",
    "customers": "registered_at",
    "rates": "rated_on",
}
_ORIGIN = """_extra MAP<STRING, STRING> COMMENT 'what the mapping does not name, by column; a malformed row as text',
    _source STRING NOT NULL COMMENT 'source',
    _file STRING NOT NULL COMMENT 'file of origin, relative to the input folder',
    _row BIGINT NOT NULL COMMENT 'data row in that file, from 1',
    _file_day DATE COMMENT 'day the file name states',
    _landed_at TIMESTAMP COMMENT 'when the file was landed, UTC',
    day DATE NOT NULL COMMENT 'day the row is about; the day of arrival where its own cannot be used'"""


def bronze_table(name: str, about: str, meanings: dict[str, str], partition: str | None) -> Table:
    """The contract of a bronze table: our columns as text, then their origin."""
    columns = "".join(f"{c} STRING COMMENT '{meanings[c]}',\n    " for c in COLUMNS[name])
    return Table(f"bronze.{name}", about, columns + _ORIGIN, partition)


def land(lake: Lake, settings: Settings, source: Source, table: Table, day: date, landed_at: datetime) -> dict[str, dict]:
    """Land the files of `source` for `table` that are new or changed and, where names state a day, not after `day`.

    Returns them for files.record(), without which the next landing does it again.
    Raises UserError for a missing file or column, and for a file that is truncated or cannot be decoded; then nothing
    of this table is landed.
    """
    mapping = source.mappings[table.name.split(".")[1]]
    found = [(n, i) for n, i in find(settings.input, mapping) if (mapping.day_of(n) or day) <= day]
    if not found:
        raise UserError(f"land: no file {mapping.files} ({table.name}) in {settings.input} for a day up to {day}")
    known = files.landed(lake, source.name, table.name)
    new = _new(settings.input, found, known, mapping)
    if not new:
        lake.create(table)  # it may have gained columns since
        log(f"read  {table.name:<28} {len(found):>12,} files, all landed before")
        lake.create(table)  # an older lake may lack a column that cleaning reads
        return {}
    log(f"read  {table.name:<28} {len(new):>12,} new files of {len(found):,}")
    secret = settings_module.secret() if mapping.personal or mapping.drop else ""
    frames = [
        _rows(lake, settings, settings.input, names, used, source, mapping, secret, day, landed_at)
        for used, names in _by_header(lake, settings.input, list(new), mapping)
    ]
    where = f"_source = '{source.name}' AND _file IN ({files.listed(new)})"
    try:
        lake.replace(table, union(frames), None if not known and not lake.exists(table.name) else where)
    except PythonException as error:
        raise _user_error(error) from None
    return new


def preview(lake: Lake, settings: Settings, root: str, source: Source, table: str, day: date, rows: int) -> DataFrame:
    """What the mapping makes of the first rows of the first file, without landing anything."""
    mapping = source.mappings[table]
    name = find(root, mapping)[0][0]
    secret = "preview only, never stored"  # noqa: S105
    ((used, names),) = _by_header(lake, root, [name], mapping)
    landed_at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return _rows(lake, settings, root, names, used, source, mapping, secret, day, landed_at, rows).limit(rows)


def _rows(
    lake: Lake, settings: Settings, root: str, names: list[str], used: list[str], source: Source, mapping: Mapping, secret: str,
    day: date, landed_at: datetime, limit: int | None = None,
) -> DataFrame:  # fmt: skip
    listing = lake.spark.createDataFrame([(n, mapping.day_of(n)) for n in names], "name STRING, file_day DATE")
    raw = listing.select("name").repartition(min(len(names), 32)).mapInArrow(
        lambda batches: _read(batches, root, mapping, used, secret, limit), _ddl(used)
    )  # fmt: skip
    mapped = raw.withColumns({"_malformed": F.col("_extra")[_reading.MALFORMED].isNotNull()})
    if mapping.where:
        mapped = mapped.where(F.col("_malformed") | F.expr(mapping.where))
    if mapping.file_day:
        days = F.broadcast(listing.withColumnRenamed("name", "_file").withColumnRenamed("file_day", "_file_day"))
        mapped = mapped.join(days, "_file", "left")
    else:
        mapped = mapped.withColumn("_file_day", F.lit(None).cast("date"))
    columns = [F.expr(mapping.columns.get(c, "NULL")).cast("string").alias(c) for c in COLUMNS[mapping.table]]
    landed = mapped.select(
        *columns, "_extra", F.lit(source.name).alias("_source"), "_file", "_row", "_file_day",
        F.lit(landed_at).cast("timestamp").alias("_landed_at"),
    )  # fmt: skip
    return landed.withColumn("day", _day(mapping, day, landed_at.date(), settings.clean))


def _read(batches: Iterable[pa.RecordBatch], root: str, mapping: Mapping, used: list[str], secret: str, limit):
    for batch in batches:
        for name in batch.column(0).to_pylist():
            left = limit
            for part in _reading.rows(root, name, mapping, used, secret):
                yield part if left is None else part.slice(0, left)
                if left is not None:
                    left -= part.num_rows
                    if left <= 0:
                        break


def _day(mapping: Mapping, day: date, today: date, limits: Clean) -> Column:
    """The day column. Events and orders whose own day cannot be used count on the day they arrived."""
    is_event = mapping.table == "events"
    own = F.to_date(event_time(limits.clock_skew_seconds)[0] if is_event else moment(_TIME[mapping.table]))
    if mapping.table in ("events", "orders"):
        arrived = F.coalesce(F.col("_file_day"), F.lit(day))
        latest = F.coalesce(F.col("_file_day"), F.lit(today))
        usable = own.isNotNull() & (own <= latest)
        if is_event:  # a late order restates its day however old: money is never left out
            usable &= F.col("_file_day").isNull() | (own >= F.date_sub("_file_day", limits.late_days))
        return F.when(usable, own).otherwise(arrived)
    if mapping.table == "customers":
        return F.coalesce(F.col("_file_day"), own, F.lit(UNDATED))
    return F.coalesce(own, F.col("_file_day"), F.lit(UNDATED))


def _new(root: str, found: list, known: dict, mapping: Mapping) -> dict[str, dict]:
    """Files whose content or mapping was not landed yet; content is read only where size or time changed."""
    new = {}
    for name, info in found:
        stamp = (info.size, info.mtime_ns, mapping.fingerprint())
        before = known.get(name)
        if before and (before["bytes"], before["modified_ns"], before["mapping"]) == stamp:
            continue
        checksum = _checksum(root, name)
        if before and (before["sha256"], before["mapping"]) == (checksum, mapping.fingerprint()):
            continue
        new[name] = {"sha256": checksum, "bytes": info.size, "modified_ns": info.mtime_ns}
    return new


def _checksum(root: str, name: str) -> str:
    filesystem, base = filesystem_of(root)
    with filesystem.open_input_file(f"{base}/{name}") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_header(lake: Lake, root: str, names: list[str], mapping: Mapping) -> list[tuple[list[str], list[str]]]:
    """Files grouped by their columns, as (columns the mapping uses, file names)."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(tuple(_reading.header(root, name, mapping)), []).append(name)
    return [(_used(lake, list(columns), files[0], mapping), files) for columns, files in groups.items()]


def _used(lake: Lake, columns: list[str], name: str, mapping: Mapping) -> list[str]:
    """The file's columns that the mapping names. Raises UserError for one that the file lacks or a bad expression."""
    kept = [c for c in columns if c not in mapping.drop]
    expressions = {**mapping.columns, **({"where": mapping.where} if mapping.where else {})}
    missing = [c for c in mapping.personal if c not in columns]
    if missing:
        raise UserError(f"land: file {name}: column '{missing[0]}' (personal, {mapping.table}) is missing; it has {columns}")
    empty = lake.spark.createDataFrame([], ", ".join(f"`{c}` STRING" for c in kept))
    for ours, expression in expressions.items():
        try:
            empty.select(F.expr(expression)).schema  # noqa: B018 - asking for the schema is the check
        except AnalysisException as error:
            why = " ".join(str(error).split(";")[0].split())[:300]
            raise UserError(f"land: file {name}: {mapping.table}.{ours} = {expression!r}: {why}; it has {columns}") from None
    text = " ".join(expressions.values())
    return [c for c in kept if c in _words(text)]


def _words(expressions: str) -> set[str]:
    """Every name in SQL expressions that could be a column, text in quotes left out.

    >>> sorted(_words("CASE WHEN `my col` LIKE 'a b' THEN Qty END"))
    ['CASE', 'END', 'LIKE', 'Qty', 'THEN', 'WHEN', 'my col']
    """
    import re

    outside = re.sub(r"'(?:[^'\\]|\\.)*'", " ", expressions)
    return set(re.findall(r"\b[A-Za-z_]\w*\b", re.sub(r"`[^`]*`", " ", outside))) | set(re.findall(r"`([^`]*)`", outside))


def _ddl(used: list[str]) -> str:
    return ", ".join([*(f"`{c}` STRING" for c in used), "_extra MAP<STRING, STRING>", "_file STRING", "_row BIGINT"])


def _user_error(error: PythonException) -> Exception:
    """The UserError a reading task ended with, out of Spark's long message."""
    marker = "jobs.errors.UserError: "
    lines = [line.split(marker, 1)[1] for line in str(error).splitlines() if marker in line]
    return UserError(lines[0]) if lines else error
