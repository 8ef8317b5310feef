"""The one error a user can cause and mend."""


class UserError(Exception):
    """What is wrong, where (file, line, column, table or day) and what to do, in one line."""


class NotDue(Exception):
    """The step has nothing to do today; the command ends with exit code 99, which Airflow shows as skipped."""
