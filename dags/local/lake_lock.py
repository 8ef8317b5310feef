"""The lock of the lake that a run writes, held by `make refresh` for all of its steps.

jobs/storage/lock.py is the same lock for the steps, and says what it protects. Both read and write the same lock file.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import socket
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dags.local.errors import UserError
from dags.processes import project_home

TOKEN_VARIABLE = "SHOAL_LOCK_TOKEN"  # noqa: S105
READ_SECONDS = 1.0  # to wait for the name of a command that has just taken the lock; it is written within milliseconds


@contextlib.contextmanager
def hold_lake(root: str, day: str) -> Iterator[None]:
    """Hold the lock of the lake `root` during the body; the steps that this process starts meanwhile work under it.

    Raises UserError where another command holds the lock, or where the lock file cannot be written.
    """
    path, token = lock_path(root), secrets.token_hex(16)
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+b", buffering=0))
            _lock(file, root)
            file.truncate(0)
            file.write(_describe_holder(day, token))
        except OSError as error:
            raise UserError(
                f"lake: {path} cannot be written or locked ({error.strerror}); choose another root with SHOAL_LAKE"
            ) from None
        os.environ[TOKEN_VARIABLE] = token
        try:
            yield
        finally:
            del os.environ[TOKEN_VARIABLE]
            file.truncate(0)


def check_lake(root: str) -> None:
    """Raise UserError where a command holds the lock of the lake `root`."""
    with contextlib.suppress(FileNotFoundError), lock_path(root).open("rb", buffering=0) as file:
        _lock(file, root)


def lake_root() -> str:
    """Return the root of the lake that the steps write; raises UserError where no setting names it.

    SHOAL_LAKE, else the lake of the source refreshed last (jobs/config/locations.py), else `lake` in conf/<SHOAL_ENV>.toml.
    """
    environment = os.environ.get("SHOAL_ENV", "local")
    record, settings = project_home() / "var" / "refreshed.json", project_home() / "conf" / f"{environment}.toml"
    try:
        if "SHOAL_LAKE" in os.environ:
            root = os.environ["SHOAL_LAKE"]
        elif environment == "local" and record.exists():
            refreshed = json.loads(record.read_text())
            root = refreshed["sources"][refreshed["last"]]["lake"]
        else:
            root = tomllib.loads(settings.read_text())["lake"]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"settings: {record} and {settings} name no lake ({error}); set SHOAL_LAKE") from None
    return root if "://" in root else str(project_home() / Path(root).expanduser())


def lock_path(root: str) -> Path:
    """Return the lock file of the lake `root`: in the lake, or in the project where the lake is in an object store."""
    if "://" not in root:
        return Path(root) / ".lock"
    if urlsplit(root).scheme == "file":
        return Path(unquote(urlsplit(root).path)) / ".lock"
    key = hashlib.sha256(root.rstrip("/").encode()).hexdigest()[:16]
    return project_home() / "var" / "locks" / f"{key}.lock"


def _describe_holder(day: str, token: str) -> bytes:
    holder = {
        "command": "make refresh",
        "days": day,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": token,
    }
    return json.dumps(holder).encode()


def _read_holder(file: FileIO) -> dict:
    end = time.monotonic() + READ_SECONDS
    while True:
        file.seek(0)
        with contextlib.suppress(ValueError):
            return json.loads(file.read())
        if time.monotonic() > end:
            return {}
        time.sleep(0.01)


def _refusal(root: str, holder: dict) -> str:
    if not holder:
        return f"lake: {root} is in use by another command; wait for it or stop it"
    return (
        f"lake: {root} is in use by {holder['command']} of {holder['days']} "
        f"(process {holder['pid']} on {holder['host']}, since {holder['started_at']}); wait for it or stop it"
    )


def _lock(file: FileIO, root: str) -> None:
    """Take the lock; raises UserError where another process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(_refusal(root, _read_holder(file))) from None
