"""Room for training's large arrays: in memory while they fit, beyond in files that the system pages in and out."""

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from jobs.errors import UserError

COPIES = 3  # of the feature matrix: as scaled, as read before and what is around each after, and what is in work
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Room:
    """For customers (n x d numbers) whose arrays may take `share` of this machine's memory."""

    def __init__(self, n: int, d: int, share: float):
        self.on_disk = COPIES * 4 * n * d > share * memory()

    def new(self, rows: int, columns: int) -> Tensor:
        """rows x columns float32, not set. One on disk takes its place in the folder for temporary files (TMPDIR).

        Raises UserError where that has no room.
        """
        if not self.on_disk or rows * columns == 0:
            return torch.empty(rows, columns)
        descriptor, name = tempfile.mkstemp(prefix="shoal-train-")
        try:
            os.posix_fallocate(descriptor, 0, rows * columns * 4)  # a full disk is an error here, a crash of the process later
            return torch.from_file(name, shared=True, size=rows * columns).view(rows, columns)
        except OSError as error:
            gigabytes = rows * columns * 4 / 1e9
            raise UserError(
                f"train: no room for {gigabytes:.1f} GB in {tempfile.gettempdir()} ({error.strerror}); free some, "
                "name another folder with TMPDIR, or raise train.memory_share"
            ) from None
        finally:
            os.close(descriptor)
            os.unlink(name)  # the array keeps the space until it is gone itself, however this process ends


def memory() -> int:
    """Bytes this process may use: the machine's, or its container's."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in map(Path, _LIMITS):
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            found.append(int(text))
    return min(found)
