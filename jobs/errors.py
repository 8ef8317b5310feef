"""The errors that end a command with one line and an exit code of their own."""


class UserError(Exception):
    """What is wrong, where (file, line, column, table or day) and what to do, in one line."""


class LakeBusy(UserError):
    """Another command holds the lock of the lake; the command ends with exit code 75, after which Airflow tries again."""


class NotDue(Exception):
    """The step has nothing to do today; the command ends with exit code 99, which Airflow shows as skipped."""
