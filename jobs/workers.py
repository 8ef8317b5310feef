"""What happens inside Spark's Python workers, as seen from the driver."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import PySparkException

from jobs.errors import UserError


@contextmanager
def user_errors() -> Iterator[None]:
    """Raise a UserError that a worker raised while a frame was evaluated as the same UserError here, in one line."""
    try:
        yield
    except PySparkException as error:
        raised = re.search(r"^jobs\.errors\.UserError: (.+)$", str(error), re.MULTILINE)
        if raised is None:
            raise
        raise UserError(raised[1]) from None
