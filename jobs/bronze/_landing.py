"""Landing: the files a source names become rows of a bronze table, each file once."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Observation, Row
from pyspark.sql import functions as F

from jobs.bronze import _reading, files
from jobs.bronze._columns import FileGroup, columns_used, group_by_header, quote_name
from jobs.bronze._values import value_errors
from jobs.config.settings import Clean, Settings, read_secret
from jobs.config.source_mapping import COLUMNS, Source, TableMapping, find_files
from jobs.errors import UserError
from jobs.moments import event_time, moment
from jobs.progress import log
from jobs.storage.files import open_filesystem
from jobs.storage.lake import Lake, union_all
from jobs.storage.table import Table

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


@dataclass(frozen=True)
class Landed:
    """The files of one mapping that were landed, by name what bronze.files remembers of each; the rows read from all."""

    files: dict[str, dict] = field(default_factory=dict)
    n_read: int = 0


def land(lake: Lake, settings: Settings, source: Source, table: Table, day: date, landed_at: datetime) -> Landed:
    """Land the files of `source` for `table` that are new or changed and, where names state a day, not after `day`.

    Returns them for files.record(), without which the next landing does it again.
    Raises UserError for a missing file or column, and for a file that is truncated or cannot be decoded; then nothing
    of this table is landed.
    """
    mapping = source.mappings[table.name.split(".")[1]]
    found = [(n, i) for n, i in find_files(settings.input, mapping) if (mapping.file_day_of(n) or day) <= day]
    if not found:
        raise UserError(f"land: no file {mapping.files} ({table.name}) in {settings.input} for a day up to {day}")
    known = files.landed(lake, source.name, table.name)
    new = _new(settings.input, found, known, mapping)
    if not new:
        log(f"read  {table.name:<28} {len(found):>12,} files, all landed before")
        lake.create(table)  # an older lake may lack a column that cleaning reads
        return Landed()
    log(f"read  {table.name:<28} {len(new):>12,} new files of {len(found):,}")
    secret = read_secret() if mapping.personal or mapping.drop else ""
    groups = group_by_header(lake, settings.input, list(new), mapping)
    _report_new_columns(table, mapping, {name: g.columns for g in groups for name in g.files}, known)
    arguments = (lake, settings, settings.input, source, mapping, secret, day, landed_at)
    counts = [Observation() for _ in groups]
    frames = [_rows(*arguments, group, count) for group, count in zip(groups, counts, strict=True)]
    where = f"_source = '{source.name}' AND _file IN ({files.listed(new)})"
    raw = [_raw_rows(lake, settings.input, mapping, secret, group) for group in groups]
    with value_errors(mapping, raw):
        lake.replace(table, union_all(frames), None if not known and not lake.exists(table.name) else where)
        left_out = _left_out(arguments, groups) if mapping.where else {}
    for group in groups:
        for name in group.files:
            new[name] |= {"columns": group.columns, "left_out": left_out.get(name, [])}
    return Landed(new, sum(count.get.get("rows", 0) for count in counts))


def preview(lake: Lake, settings: Settings, root: str, source: Source, table: str, day: date, rows: int) -> list[Row]:
    """What the mapping makes of the first rows of the first file, without landing anything. Raises UserError as `land` does."""
    mapping = source.mappings[table]
    name = find_files(root, mapping)[0][0]
    secret = "preview only, never stored"  # noqa: S105
    (group,) = group_by_header(lake, root, [name], mapping)
    landed_at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    first = _rows(lake, settings, root, source, mapping, secret, day, landed_at, group, limit=rows).limit(rows)
    with value_errors(mapping, [_raw_rows(lake, root, mapping, secret, group, rows)]):
        return first.collect()


def _raw_rows(lake: Lake, root: str, mapping: TableMapping, secret: str, group: FileGroup, limit: int | None = None) -> DataFrame:
    """The rows of a group's files as read, before the mapping's expressions; of each file the first `limit`."""
    listing = lake.spark.createDataFrame([(n,) for n in group.files], "name STRING")
    return listing.repartition(min(len(group.files), 32)).mapInArrow(
        lambda batches: _read(batches, root, mapping, group.used, secret, limit), _ddl(group.used)
    )


def _rows(
    lake: Lake, settings: Settings, root: str, source: Source, mapping: TableMapping, secret: str, day: date, landed_at: datetime,
    group: FileGroup, count: Observation | None = None, limit: int | None = None, asked_for: bool = True,
) -> DataFrame:  # fmt: skip
    """The rows of a group's files in the table's shape: those the mapping asks for, or those its `where` leaves out."""
    raw = _raw_rows(lake, root, mapping, secret, group, limit)
    mapped = raw.observe(count, F.count(F.lit(1)).alias("rows")) if count else raw
    if mapping.where:
        malformed = F.col("_extra")[_reading.MALFORMED].isNotNull()
        mapped = mapped.where((malformed | F.coalesce(F.expr(mapping.where).cast("boolean"), F.lit(False))) == asked_for)
    if mapping.file_day:
        days = lake.spark.createDataFrame([(n, mapping.file_day_of(n)) for n in group.files], "_file STRING, _file_day DATE")
        mapped = mapped.join(F.broadcast(days), "_file", "left")
    else:
        mapped = mapped.withColumn("_file_day", F.lit(None).cast("date"))
    columns = [F.expr(mapping.columns.get(c, "NULL")).cast("string").alias(c) for c in COLUMNS[mapping.table]]
    landed = mapped.select(
        *columns, "_extra", F.lit(source.name).alias("_source"), "_file", "_row", "_file_day",
        F.lit(landed_at).cast("timestamp").alias("_landed_at"),
    )  # fmt: skip
    return landed.withColumn("day", _day(mapping, day, landed_at.date(), settings.clean))


def _left_out(arguments: tuple, groups: list[FileGroup]) -> dict[str, list[tuple[date, int]]]:
    """(day, rows) that `where` leaves out, by file: a second look at the files, at the few columns that this takes."""
    *others, mapping, secret, day, landed_at = arguments
    dating = {c: e for c, e in mapping.columns.items() if c in ("event_at", "sent_at", "received_at", _TIME.get(mapping.table))}
    found: dict[str, list[tuple[date, int]]] = {}
    for group in groups:
        used = columns_used(group.used, [mapping.where, *dating.values()])
        few = replace(mapping, columns=dating, drop=tuple(c for c in group.columns if c not in used))
        rows = _rows(*others, few, secret, day, landed_at, replace(group, used=used), asked_for=False)
        for row in rows.groupBy("_file", "day").count().orderBy("_file", "day").collect():
            found.setdefault(row._file, []).append((row.day, row["count"]))
    return found


def _report_new_columns(table: Table, mapping: TableMapping, columns: dict[str, list[str]], known: dict[str, dict]) -> None:
    """One line for each column that no file had before, with the files that have it."""
    before = {c for file in known.values() for c in file["columns"] or ()}
    first = min(columns) if not before else None
    fresh: dict[str, list[str]] = {}
    for name in sorted(columns):
        for column in columns[name]:
            if column not in before and name != first and column not in columns.get(first, ()):
                fresh.setdefault(column, []).append(name)
    for column, names in fresh.items():
        others = f" and {len(names) - 1} more files" if names[1:] else ""
        what = "dropped" if column in mapping.drop else "personal" if column in mapping.personal else "kept in _extra as it is"
        log(f"drift {table.name:<28} new column '{column}' in {names[0]}{others}: {what}")


def _read(batches: Iterable[pa.RecordBatch], root: str, mapping: TableMapping, used: list[str], secret: str, limit):
    for batch in batches:
        for name in batch.column(0).to_pylist():
            left = limit
            for part in _reading.rows(root, name, mapping, used, secret):
                yield part if left is None else part.slice(0, left)
                if left is not None:
                    left -= part.num_rows
                    if left <= 0:
                        break


def _day(mapping: TableMapping, day: date, today: date, limits: Clean) -> Column:
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


def _new(root: str, found: list, known: dict, mapping: TableMapping) -> dict[str, dict]:
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
    filesystem, base = open_filesystem(root)
    with filesystem.open_input_file(f"{base}/{name}") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ddl(used: list[str]) -> str:
    return ", ".join([*(f"{quote_name(c)} STRING" for c in used), "_extra MAP<STRING, STRING>", "_file STRING", "_row BIGINT"])
