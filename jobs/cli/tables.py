"""`shoal tables`: every table of the lake that exists."""

from jobs import flow
from jobs.cli.text_table import align_columns
from jobs.errors import UserError
from jobs.storage.delta import summarize_table


def print_tables(lake: str) -> None:
    """Print version, rows and newest day of every table. Raises UserError for a lake without tables."""
    names = [f"{layer}.{table}" for layer, tables in flow.TABLES.items() for table in tables]
    summaries = {name: summary for name in names if (summary := summarize_table(lake, name))}
    if not summaries:
        raise UserError(f"tables: no table in {lake}; run first: make refresh, or name another lake with --source or SHOAL_LAKE")
    rows = [[name, str(version), f"{n_rows:,}", str(newest or "")] for name, (version, n_rows, newest) in summaries.items()]
    print("\n".join(align_columns([["table", "version", "rows", "newest day"], *rows], left={0, 3})))
