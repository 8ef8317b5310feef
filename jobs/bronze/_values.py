"""Values of source files that an expression of the mapping cannot take: named by file, row and column, never quoted.

Spark's own error quotes the value, which may be a name or an e-mail address.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import Column, DataFrame, Row
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
    checks = _list_checks(mapping)
    firsts = [F.min(F.when(raises, F.struct("_file", "_row"))) for _, _, raises in checks]
    for frame in frames:
        for (name, expression, _), first in zip(checks, _aggregate(frame, firsts), strict=True):
            if first:
                return (
                    f"land: file {first._file}, row {first._row}: the mapping's {name} = {expression!r} cannot take a value of "
                    "this row; correct the file, or change the expression, such as to try_cast"
                )
    return None


def _list_checks(mapping: TableMapping) -> list[tuple[str, str, Column]]:
    """Return (name, expression, whether it raises an error on a row): `where`, then on requested rows, then on all rows."""
    expressions = list_expressions(mapping)
    where = expressions.pop("where", "true")
    condition = f"cast(({where}) AS BOOLEAN)"
    is_requested = F.when(_raises_error(condition), False).otherwise(F.coalesce(F.expr(condition), F.lit(False)))
    columns = [(f"{mapping.table}.{column}", e, _raises_error(e)) for column, e in expressions.items()]
    requested = [(name, expression, raises & is_requested) for name, expression, raises in columns]
    return [("where", where, _raises_error(condition)), *requested, *columns]


def _aggregate(frame: DataFrame, aggregates: list[Column]) -> Row:
    """Aggregate all rows. Without subexpression elimination, which evaluates parts of an expression outside of the others."""
    conf = frame.sparkSession.conf
    before = conf.get(_SUBEXPRESSIONS)
    conf.set(_SUBEXPRESSIONS, "false")
    try:
        return frame.agg(*aggregates).first()
    finally:
        conf.set(_SUBEXPRESSIONS, before)


def _raises_error(expression: str) -> Column:
    """Return whether an expression raises an error: try_to_binary returns null for any error in its argument."""
    return F.expr(f"try_to_binary(coalesce(cast(({expression}) AS STRING), ''), 'utf-8') IS NULL")
