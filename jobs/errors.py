"""The errors that end a command with one line and an exit code of their own, and messages of Spark without quoted values."""

import re

# As the pattern of Spark's log in setup/configuration.py.
_QUOTING = re.compile(r"(\[[A-Z][A-Z0-9_.]+\])[^\n]*(?:\n - [^\n]*)*")


class UserError(Exception):
    """What is wrong, where (file, line, column, table or day) and what to do, in one line."""


class LakeBusy(UserError):
    """Another command holds the lock of the lake; the command ends with exit code 75, after which Airflow tries again."""


class NotDue(Exception):
    """The step has nothing to do today; the command ends with exit code 99, which Airflow shows as skipped."""


def hide_values(message: str) -> str:
    """Return a message of Spark up to its conditions: what follows one may quote a cell of a file.

    >>> hide_values("SparkNumberFormatException: [CAST_INVALID_INPUT] The value 'Anna' cannot be cast to INT")
    'SparkNumberFormatException: [CAST_INVALID_INPUT]'
    """
    return _QUOTING.sub(r"\1", message)
