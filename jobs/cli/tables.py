"""`shoal tables`: every table of the lake that exists."""

from jobs import flow
from jobs.cli.text_table import align_columns
from jobs.errors import UserError
from jobs.storage.delta import count_rows, is_written, newest_day, open_table, table_path


def print_tables(lake: str) -> None:
    """Print version, rows and newest day of every table. Raises UserError for a lake without tables."""
    names = [f"{layer}.{table}" for layer, tables in flow.TABLES.items() for table in tables]
    names = [name for name in names if is_written(table_path(lake, name))]
    if not names:
        raise UserError(f"tables: no table in {lake}; run first: make refresh, or name another lake with --source or SHOAL_LAKE")
    rows = [
        [name, str(open_table(lake, name).version()), f"{count_rows(lake, name):,}", str(newest_day(lake, name) or "")]
        for name in names
    ]
    print("\n".join(align_columns([["table", "version", "rows", "newest day"], *rows], left={0, 3})))
