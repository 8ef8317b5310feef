"""The value of a source file that an expression of its mapping cannot take, found by file and row and never quoted.

Spark's own error quotes the value, which may be a name or an e-mail address.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.bronze._columns import mapping_expressions
from jobs.config.source_mapping import TableMapping
from jobs.engine.workers import user_errors
from jobs.errors import UserError

_ELIMINATION = "spark.sql.subexpressionElimination.enabled"


@contextmanager
def value_errors(mapping: TableMapping, frames: list[DataFrame]) -> Iterator[None]:
    """Evaluate the mapping's expressions; raise UserError by file, row and column for a value that one cannot take.

    `frames` are the rows of the files before the expressions, with `_file` and `_row`.
    """
    try:
        with user_errors():
            yield
    except UserError:
        raise
    except Exception:  # of a write Spark raises what is not even a PySparkException
        if message := _find_value(mapping, frames):
            raise UserError(message) from None
        raise


def _find_value(mapping: TableMapping, frames: list[DataFrame]) -> str | None:
    """Where the first value is that an expression cannot take, in one pass over each frame; None where there is none."""
    expressions = mapping_expressions(mapping)
    where = expressions.pop("where", "true")
    is_asked_for = F.when(_fails(where), False).otherwise(F.coalesce(F.expr(where).cast("boolean"), F.lit(False)))
    checks = {("where", where): _fails(where)}
    checks |= {(f"{mapping.table}.{c}", e): _fails(e) & is_asked_for for c, e in expressions.items()}
    firsts = [F.min(F.when(fails, F.struct("_file", "_row"))) for fails in checks.values()]
    for frame in frames:
        spark = frame.sparkSession
        before = spark.conf.get(_ELIMINATION)
        spark.conf.set(_ELIMINATION, "false")  # it would evaluate what stands in an expression twice outside of _fails
        try:
            found = frame.agg(*firsts).first()
        finally:
            spark.conf.set(_ELIMINATION, before)
        for (name, expression), first in zip(checks, found, strict=True):
            if first:
                return (
                    f"land: file {first._file}, row {first._row}: the mapping's {name} = {expression!r} cannot take a value of "
                    "this row; correct the file, or write the expression so that it can, such as with try_cast"
                )
    return None


def _fails(expression: str) -> Column:
    """Whether evaluating an expression raises an error: try_to_binary gives null for any error in its argument."""
    return F.expr(f"try_to_binary(coalesce(cast(({expression}) AS STRING), ''), 'utf-8') IS NULL")
