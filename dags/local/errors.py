"""The error that ends a command with one line."""


class UserError(Exception):
    """What is wrong and what to do, in one line; the command ends with exit code 1."""
