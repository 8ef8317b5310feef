"""The lock of a lake: one command at a time writes the tables under one root.

`make refresh` (dags/) holds the lock for its whole run. `shoal refresh` and each `shoal <step>` that writes tables hold it
while they work. `shoal train` writes models and takes no lock. The lock is an flock on a file: the kernel releases it when
the holder ends, however it ends.

A lake in a folder is locked by `<lake>/.lock`: no other project can write the same lake. An object store cannot be locked
with flock. Its lake is locked by a file in `var/locks` of this project, named after the URI: that keeps apart what this
project runs on this machine, and nothing else.

The file holds one JSON object that says who holds the lock; dags/local/lake_lock.py reads and writes the same format.
"""

import fcntl
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from io import FileIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jobs.errors import LakeBusy, UserError

TOKEN_VARIABLE = "SHOAL_LOCK_TOKEN"  # noqa: S105
_HOME = Path(__file__).resolve().parents[2]
_READ_SECONDS = 1.0  # to wait for the name of a command that has just taken the lock; it is written within milliseconds


@contextmanager
def hold_lake(root: str, command: str, days: str, started_at: datetime) -> Iterator[None]:
    """Hold the lock of the lake `root` during the body; refusals name `command`, `days` and `started_at`.

    A child of the holder works under its parent's lock: its variable SHOAL_LOCK_TOKEN equals the token in the lock file.
    Raises LakeBusy where another command holds the lock, UserError where the lock file cannot be written.
    """
    path = lock_path(root)
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+b", buffering=0))
            if is_holder := _lock(file):
                file.truncate(0)
                file.write(describe_holder(command, days, started_at))
                stack.callback(file.truncate, 0)
        except OSError as error:
            raise UserError(
                f"lake: {path} cannot be written or locked ({error.strerror}); choose another root with SHOAL_LAKE"
            ) from None
        if not is_holder:
            holder = read_holder(file)
            if not holder or holder["token"] != os.environ.get(TOKEN_VARIABLE):
                raise LakeBusy(refusal(root, holder))
        yield


@contextmanager
def hold_folder(root: str) -> Iterator[None]:
    """Hold the lock of a folder of models during the body; wait for it where another process holds it.

    It is for a change that reads a file first and takes milliseconds. Raises OSError where its file cannot be written.
    """
    path = lock_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def lock_path(root: str, home: Path = _HOME) -> Path:
    """Return the lock file of the lake `root`.

    >>> str(lock_path("/data/lake")), str(lock_path("file:///data/my%20lake"))
    ('/data/lake/.lock', '/data/my lake/.lock')
    >>> str(lock_path("s3://shop/lake/", Path("/project"))) == str(lock_path("s3://shop/lake", Path("/project")))
    True
    """
    if "://" not in root:
        return Path(root) / ".lock"
    if urlsplit(root).scheme == "file":
        return Path(unquote(urlsplit(root).path)) / ".lock"
    key = hashlib.sha256(root.rstrip("/").encode()).hexdigest()[:16]
    return home / "var" / "locks" / f"{key}.lock"


def describe_holder(command: str, days: str, started_at: datetime) -> bytes:
    """Return the content of a lock file that this process holds, with a new token."""
    holder = {
        "command": command,
        "days": days,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started_at": started_at.isoformat(timespec="seconds"),
        "token": secrets.token_hex(16),
    }
    return json.dumps(holder).encode()


def read_holder(file: FileIO) -> dict:
    """Return the content of a lock file; empty where its holder has not written it within a second."""
    end = time.monotonic() + _READ_SECONDS
    while True:
        file.seek(0)
        with suppress(ValueError):
            return json.loads(file.read())
        if time.monotonic() > end:
            return {}
        time.sleep(0.01)


def refusal(root: str, holder: dict) -> str:
    """Return the line for a command that does not get the lock."""
    if not holder:
        return f"lake: {root} is in use by another command; wait for it or stop it"
    return (
        f"lake: {root} is in use by {holder['command']} of {holder['days']} "
        f"(process {holder['pid']} on {holder['host']}, since {holder['started_at']}); wait for it or stop it"
    )


def _lock(file: FileIO) -> bool:
    """Take the lock unless another process holds it; returns whether this process holds it now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
