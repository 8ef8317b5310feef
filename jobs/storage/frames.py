"""Arrow rows as Polars frames."""

import polars as pl
import pyarrow as pa


def to_frame(rows: pa.Table) -> pl.DataFrame:
    """Return Arrow rows as a frame."""
    return pl.DataFrame(pl.from_arrow(rows))
