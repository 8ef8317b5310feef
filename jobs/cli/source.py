"""`shoal source check`: what a mapping makes of the first rows of each kind of file."""

from datetime import UTC, datetime

from jobs.bronze import pipeline
from jobs.config import source_mapping
from jobs.config.settings import Settings
from jobs.progress import log

WIDTH = 24  # characters of a value that are shown


def check_source(settings: Settings, mapping_name: str, root: str, rows: int) -> None:
    """Print the first `rows` rows of each mapping of a source, and what is wrong with them; nothing is landed."""
    source = source_mapping.load_source(mapping_name)
    day = datetime.now(UTC).date()
    for mapping in source.all_mappings():
        preview = pipeline.preview_mapping(settings, root, source, mapping, day, rows)
        log(f"\n{mapping.table}: {len(preview.files)} files {preview.pattern}, first {preview.files[0]}")
        for column, values in preview.values.items():
            texts = ["null" if value is None else value for value in values]
            note = "   <- null in every row shown" if texts and set(texts) == {"null"} else ""
            log(f"  {column:<16} {' | '.join(text[:WIDTH] for text in texts)}{note}")
        if not preview.n_rows:
            log("  no rows: check 'where'")
