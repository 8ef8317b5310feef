"""`shoal source check`: what a mapping makes of the first rows of each kind of file."""

from datetime import UTC, datetime

from jobs.bronze import _landing
from jobs.config import source_mapping
from jobs.config.settings import Settings
from jobs.progress import log
from jobs.steps import open_lake

WIDTH = 24  # characters of a value that are shown


def check_source(settings: Settings, mapping_name: str, root: str, rows: int) -> None:
    """Print the first `rows` rows of each table of a mapping, and what is wrong with them; nothing is landed."""
    source = source_mapping.load_source(mapping_name)
    day = datetime.now(UTC).date()
    with open_lake("source check", settings) as lake:
        for table, mapping in source.mappings.items():
            files = source_mapping.find_files(root, mapping)
            log(f"\n{table}: {len(files)} files {mapping.files}, first {files[0][0]}")
            records = _landing.preview(lake, settings, root, source, table, day, rows)
            columns = [c for c in (*source_mapping.COLUMNS[table], "day") if c in mapping.columns or c == "day"]
            for column in columns:
                values = [str(record[column]) if record[column] is not None else "null" for record in records]
                note = "   <- null in every row shown" if records and set(values) == {"null"} else ""
                log(f"  {column:<16} {' | '.join(value[:WIDTH] for value in values)}{note}")
            if not records:
                log("  no rows: check 'where'")
