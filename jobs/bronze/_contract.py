"""What the bronze tables have in common: our columns as text, and where each row comes from."""

from jobs.config.source_mapping import COLUMNS
from jobs.storage.table import Table

_ORIGIN = """_extra MAP<STRING, STRING> COMMENT 'what the mapping does not name, by column; a malformed row as text',
    _source STRING NOT NULL COMMENT 'source',
    _file STRING NOT NULL COMMENT 'file of origin, relative to the input folder',
    _row BIGINT NOT NULL COMMENT 'data row in that file, from 1',
    _file_day DATE COMMENT 'day the file name states',
    _landed_at TIMESTAMP COMMENT 'when the file was landed, UTC',
    day DATE NOT NULL COMMENT 'day the row is about; the day of arrival where its own cannot be used'"""


def define_table(name: str, about: str, meanings: dict[str, str], partition: str | None = None, origin: str = "") -> Table:
    """Return the contract of bronze.<name>; `meanings` has a comment for each of our columns, `origin` is DDL of further ones."""
    columns = "".join(f"{column} STRING COMMENT '{meanings[column]}',\n    " for column in COLUMNS[name])
    return Table(f"bronze.{name}", about, columns + (f"{origin},\n    " if origin else "") + _ORIGIN, partition)
