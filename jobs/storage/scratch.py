"""Scratch folders: what a process keeps outside memory while it runs, under TMPDIR and readable by this user alone.

A process that is killed leaves its folders. The next step removes them: only those of this user whose owner is gone for sure. An
owner holds an flock on a file in the folder, which the kernel releases when the owner ends, however it ends.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "shoal_scratch_"
_LOCK = ".lock"


class Scratch:
    """A folder that this process owns until remove()."""

    def __init__(self) -> None:
        # It gets its name when the lock is held: nobody ever sees a folder of this name with an owner and without a lock.
        unnamed = tempfile.mkdtemp(prefix="shoal_")
        self._lock = os.open(f"{unnamed}/{_LOCK}", os.O_RDWR | os.O_CREAT, 0o600)  # closed in a program that this process starts
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        folder, name = os.path.split(unnamed)
        self.path = f"{folder}/{_PREFIX}{name.removeprefix('shoal_')}"
        os.rename(unnamed, self.path)

    def remove(self) -> None:
        """Remove the folder with all files."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


@contextmanager
def open_scratch() -> Iterator[str]:
    """Yield the path of a scratch folder, which is removed at the end of the block."""
    scratch = Scratch()
    try:
        yield scratch.path
    finally:
        scratch.remove()


def clear_abandoned() -> None:
    """Remove the scratch folders of this user whose owner has ended without removing them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # its owner is at work or has just removed it, or it is another user's
            if folder.lstat().st_uid == os.geteuid():
                _remove_unless_owned(folder)


def _remove_unless_owned(folder: Path) -> None:
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)
