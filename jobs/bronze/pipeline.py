"""Landing a day: the new and changed files of the source become rows of the bronze tables, as received."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial

from jobs.bronze import customers, events, files, orders, products, rates
from jobs.bronze._columns import group_by_header
from jobs.bronze._landing import land_files
from jobs.bronze._mapping import FileMapper
from jobs.bronze._values import value_errors
from jobs.concurrency import run_in_parallel
from jobs.config.settings import Settings
from jobs.config.source_mapping import COLUMNS, Source, find_files, load_source
from jobs.storage.lake import Lake

TABLES = {module.TABLE.name.split(".")[1]: module.TABLE for module in (events, orders, products, customers, rates)}
_PREVIEW_SECRET = "preview only, never stored"  # noqa: S105


def run(lake: Lake, settings: Settings, day: date, landed_at: datetime) -> None:
    """Land the files of the source up to `day`, several tables at a time, then account for their rows and register them."""
    source = load_source(settings.source)
    calls = {
        mapping: partial(land_files, lake, settings, source, TABLES[table], day, landed_at)
        for table, mapping in source.mappings.items()
    }
    files.register_files(lake, source.name, run_in_parallel(calls), landed_at)


@dataclass(frozen=True)
class TablePreview:
    """What a mapping makes of the first rows of a table's first file: the values by column, a value for each row."""

    table: str
    pattern: str
    files: list[str]
    n_rows: int
    values: dict[str, list[str | None]]


def preview_table(lake: Lake, settings: Settings, root: str, source: Source, table: str, day: date, rows: int) -> TablePreview:
    """Map the first `rows` rows of the first file, as on `day`; nothing is landed. Raises UserError as landing does."""
    mapping = source.mappings[table]
    names = [name for name, _ in find_files(root, mapping)]
    (group,) = group_by_header(lake.spark, root, names[:1], mapping)
    landed_at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    mapper = FileMapper(lake.spark, settings.clean, root, source.name, mapping, _PREVIEW_SECRET, day, landed_at)
    raw = mapper.read_raw(group, limit=rows)
    with value_errors(mapping, [raw]):
        records = mapper.map_rows(raw, group).limit(rows).collect()
    columns = [column for column in COLUMNS[table] if column in mapping.columns]
    values = {c: [None if record[c] is None else str(record[c]) for record in records] for c in (*columns, "day")}
    return TablePreview(table, mapping.files, names, len(records), values)
