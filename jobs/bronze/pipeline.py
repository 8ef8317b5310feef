"""Landing a day: the new and changed files of the source become rows of the bronze tables, as received."""

from datetime import date, datetime

from jobs.bronze import _forgetting, customers, events, files, orders, products, rates
from jobs.bronze._key import read_key, remember_key
from jobs.bronze._landing import land_files
from jobs.bronze._new_files import NewFiles, find_first_files, find_new_files
from jobs.config.settings import Settings
from jobs.config.source_files import check_any_file
from jobs.config.source_mapping import Source, load_source
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


def land_first_rows(
    lake: Lake, settings: Settings, source: Source, day: date, landed_at: datetime, most_rows: int
) -> dict[str, NewFiles]:
    """Land the first rows of some files of each mapping in an empty lake, to be looked at. Returns the files by table.

    Raises UserError as landing does.
    """
    check_any_file(settings.input, list(source.all_mappings()))
    source = source.limit_files(settings.max_unpacked_gib)
    new = {
        table: files_of_table
        for table in source.mappings
        if (files_of_table := find_first_files(settings, source, TABLES[table], _PREVIEW_SECRET, day, landed_at, most_rows))
    }
    with open_runner(lake, settings, most_rows) as runner:
        files.register_files(lake, source.name, {table: land_files(lake, runner, part) for table, part in new.items()}, landed_at)
    return new
