"""Who may use the web page and the API of `make up`: one user with a password, on this machine."""

import json
import os
import secrets
from pathlib import Path

from dags.local.errors import UserError

USER = "admin"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def create_password() -> str | None:
    """Create the user's password, unless there is one; return a new one, to be shown once."""
    path = passwords_file()
    if path.exists():
        path.chmod(0o600)
        return None
    password = secrets.token_urlsafe(15)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({USER: password}, file)
    return password


def passwords_file() -> Path:
    """Return the file in which Airflow's simple auth manager reads passwords."""
    return Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])


def check_address() -> None:
    """Raise UserError where everyone who reaches the page would be its administrator, and others than this machine reach it."""
    host = os.environ["AIRFLOW__API__HOST"]
    all_admins = os.environ.get("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "").lower()
    if host not in LOOPBACK and all_admins not in ("", "false"):
        raise UserError(
            f"AIRFLOW__API__HOST is {host} and AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS makes everyone who reaches it an "
            "administrator; unset one of them"
        )
