"""The lock of the lake that a run writes, held by `make refresh` for all of its steps.

The steps' own part is jobs/storage/lock.py, which says what the lock protects. Both read and write the same file.
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

TOKEN_VARIABLE = "SHOAL_LOCK_TOKEN"  # noqa: S105
READ_SECONDS = 1.0  # a command that has just taken the lock writes its name within milliseconds


class LakeBusy(Exception):
    """Another command holds the lock of the lake; the text names it."""


@contextlib.contextmanager
def hold_lake(root: str, home: Path, day: str) -> Iterator[None]:
    """Hold the lock of the lake `root` while the body runs, and let the steps through that this process starts meanwhile.

    Raises LakeBusy where another command holds the lock, OSError where the lock file cannot be written.
    """
    path = lock_path(root, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        if not _lock(file):
            raise LakeBusy(_refusal(root, _read_holder(file)))
        token = secrets.token_hex(16)
        file.truncate(0)
        file.write(_describe_holder(day, token))
        os.environ[TOKEN_VARIABLE] = token
        try:
            yield
        finally:
            del os.environ[TOKEN_VARIABLE]
            file.truncate(0)


def check_lake(root: str, home: Path) -> None:
    """Raise LakeBusy where a command holds the lock of the lake `root`."""
    path = lock_path(root, home)
    if path.exists():
        with path.open("rb", buffering=0) as file:
            if not _lock(file):
                raise LakeBusy(_refusal(root, _read_holder(file)))


def lake_root(home: Path) -> str:
    """Return the root of the lake that the steps write, as they find it: SHOAL_LAKE, else conf/<SHOAL_ENV>.toml.

    Raises OSError, KeyError or tomllib.TOMLDecodeError where the settings file does not name it.
    """
    root = os.environ.get("SHOAL_LAKE")
    if root is None:
        root = tomllib.loads((home / "conf" / f"{os.environ.get('SHOAL_ENV', 'local')}.toml").read_text())["lake"]
    return root if "://" in root else str(home / Path(root).expanduser())


def lock_path(root: str, home: Path) -> Path:
    """Return the lock file of the lake `root`: in the lake, or under `home` where the lake is an object store's."""
    if "://" not in root:
        return Path(root) / ".lock"
    if urlsplit(root).scheme == "file":
        return Path(unquote(urlsplit(root).path)) / ".lock"
    key = hashlib.sha256(root.rstrip("/").encode()).hexdigest()[:16]
    return home / "var" / "locks" / f"{key}.lock"


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


def _lock(file: FileIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
