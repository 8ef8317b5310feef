"""Landing a day: the new and changed files of the source become rows of the bronze tables, as received."""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from jobs.bronze import _forgetting, customers, events, files, orders, products, rates
from jobs.bronze._key import read_key, remember_key
from jobs.bronze._landing import land_files
from jobs.bronze._mapping import FileMapper
from jobs.bronze._new_files import find_new_files, group_files
from jobs.bronze._whole import find_lookup_files
from jobs.config.settings import Settings
from jobs.config.source_files import check_any_file, find_files
from jobs.config.source_mapping import COLUMNS, Source, TableMapping, load_source
from jobs.engine.runner import open_runner
from jobs.storage.lake import Lake
from jobs.storage.table import Table

TABLES = {module.TABLE.name.split(".")[1]: module.TABLE for module in (events, orders, products, customers, rates)}
_PREVIEW_SECRET = "preview only, never stored"  # noqa: S105


def run(lake: Lake, settings: Settings, day: date, landed_at: datetime) -> None:
    """Land the files of the source up to `day`, account for their rows and register them."""
    source = load_source(settings.source)
    files.register_files(lake, source.name, land_tables(lake, settings, source, list(source.mappings), day, landed_at), landed_at)
    _forgetting.log_missing_files(lake, settings.input, source.name, [TABLES[table].name for table in source.mappings])


def land_tables(
    lake: Lake, settings: Settings, source: Source, tables: list[str], day: date, landed_at: datetime
) -> dict[str, files.LandedFiles]:
    """Land the files of these tables; no file of any table is landed where one lacks a column.

    A table without files, or without new ones, is none to land. Raises UserError where no table ever had a file.
    """
    if not any(files.read_register(lake, source.name, TABLES[table].name) for table in tables):
        check_any_file(settings.input, [mapping for table in tables for mapping in source.mappings[table]])
    secret, source = read_key(lake.root, source), source.limit_files(settings.max_unpacked_gib)
    new = {
        table: find_new_files(lake, settings, source, TABLES[table], secret, day, landed_at)
        for table in source.mappings
        if table in tables
    }
    new = {table: new_files for table, new_files in new.items() if new_files}
    if not new:
        return {}
    remember_key(lake.root, secret)
    with open_runner(lake, settings, sum(new_files.n_rows for new_files in new.values())) as runner:
        return {table: land_files(lake, runner, new_files) for table, new_files in new.items()}


def forget_file(lake: Lake, settings: Settings, file: str, table: str | None, forgotten_at: datetime) -> None:
    """Take the rows of a landed file out of one table, or of all. Raises UserError where it was not landed there."""
    _forgetting.forget_file(lake, load_source(settings.source).name, file, _choose_tables(table), forgotten_at)


def remember_file(lake: Lake, settings: Settings, file: str, table: str | None) -> None:
    """Let the next landing take a forgotten file up again. Raises UserError where it is not forgotten."""
    _forgetting.remember_file(lake, load_source(settings.source).name, file, _choose_tables(table))


def _choose_tables(table: str | None) -> dict[str, Table]:
    return {TABLES[name].name: TABLES[name] for name in TABLES if table in (None, name)}


@dataclass(frozen=True)
class TablePreview:
    """What a mapping makes of the first rows of a mapping's first file: the values by column, a value for each row."""

    table: str
    pattern: str
    files: list[str]
    n_rows: int
    values: dict[str, list[str | None]]


def preview_mapping(settings: Settings, root: str, source: Source, mapping: TableMapping, day: date, rows: int) -> TablePreview:
    """Map the first `rows` rows of the first file, as on `day`; nothing is landed. Raises UserError as landing does."""
    check_any_file(root, [mapping])
    mapping = mapping.limit_files(settings.max_unpacked_gib)
    names = [name for name, _ in find_files(root, mapping)]
    lookups = find_lookup_files(root, mapping, day)
    (group,) = group_files(root, names[:1], mapping, lookups, names)
    landed_at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    mapper = FileMapper(
        settings.clean, root, source.name, TABLES[mapping.table], mapping, lookups, _PREVIEW_SECRET, day, landed_at
    )
    records = mapper.map_first_rows(group, rows).to_pylist()
    columns = [column for column in COLUMNS[mapping.table] if column in mapping.columns]
    values = {c: [None if record[c] is None else str(record[c]) for record in records] for c in (*columns, "day")}
    return TablePreview(mapping.table, mapping.files, names, len(records), values)
