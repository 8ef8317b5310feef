"""Errors that Spark's Python workers raise, as the driver sees them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import PySparkException

from jobs.errors import UserError


@contextmanager
def user_errors() -> Iterator[None]:
    """Raise a worker's UserError, which Spark wraps when it evaluates a frame, as the same UserError in one line."""
    try:
        yield
    except PySparkException as error:
        match = re.search(r"^jobs\.errors\.UserError: (.+)$", str(error), re.MULTILINE)
        if match is None:
            raise
        raise UserError(match[1]) from None
