"""Values of source files that an expression of the mapping cannot take: named by file, row and column, never quoted.

Spark's own error quotes the value, which may be a name or an e-mail address.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.bronze._columns import list_expressions
from jobs.config.source_mapping import TableMapping
from jobs.engine.workers import user_errors
from jobs.errors import UserError

_SUBEXPRESSIONS = "spark.sql.subexpressionElimination.enabled"


@contextmanager
def value_errors(mapping: TableMapping, frames: list[DataFrame]) -> Iterator[None]:
    """Raise an error about a value as a UserError that names file, row and column; the block evaluates the expressions.

    `frames` are the rows of the files before the expressions, with `_file` and `_row`. They are read again after an error.
    """
    try:
        with user_errors():
            yield
    except UserError:
        raise
    except Exception:  # a write does not even raise a PySparkException
        if message := _find_value(mapping, frames):
            raise UserError(message) from None
        raise


def _find_value(mapping: TableMapping, frames: list[DataFrame]) -> str | None:
    """Return the message about the first value that an expression cannot take, from one pass over each frame, or None."""
    expressions = list_expressions(mapping)
    where = expressions.pop("where", "true")
    is_requested = F.when(_raises_error(where), False).otherwise(F.coalesce(F.expr(where).cast("boolean"), F.lit(False)))
    checks = {("where", where): _raises_error(where)}
    checks |= {(f"{mapping.table}.{c}", e): _raises_error(e) & is_requested for c, e in expressions.items()}
    firsts = [F.min(F.when(raises, F.struct("_file", "_row"))) for raises in checks.values()]
    for frame in frames:
        spark = frame.sparkSession
        before = spark.conf.get(_SUBEXPRESSIONS)
        spark.conf.set(_SUBEXPRESSIONS, "false")  # else Spark evaluates what is there twice outside of try_to_binary
        try:
            row = frame.agg(*firsts).first()
        finally:
            spark.conf.set(_SUBEXPRESSIONS, before)
        for (name, expression), first in zip(checks, row, strict=True):
            if first:
                return (
                    f"land: file {first._file}, row {first._row}: the mapping's {name} = {expression!r} cannot take a value of "
                    "this row; correct the file, or change the expression, such as to try_cast"
                )
    return None


def _raises_error(expression: str) -> Column:
    """Return whether an expression raises an error: try_to_binary returns null for any error in its argument."""
    return F.expr(f"try_to_binary(coalesce(cast(({expression}) AS STRING), ''), 'utf-8') IS NULL")
