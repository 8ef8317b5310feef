"""Storage for the large arrays of a training: in memory if they fit, otherwise in files that the system maps into memory."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from jobs.errors import UserError

COPIES = 3  # of the feature matrix at one time: as scaled, the neighbour means, and what preprocessing needs meanwhile
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

Allocate = Callable[[int, int], Tensor]
"""Rows and columns -> an uninitialised float32 array: torch.empty, or ArrayStorage.allocate."""


class ArrayStorage:
    """Storage for arrays of customers (n_customers, n_features), which may take `memory_share` of this machine's memory."""

    def __init__(self, n_customers: int, n_features: int, memory_share: float):
        self.is_on_disk = COPIES * 4 * n_customers * n_features > memory_share * available_memory()

    def allocate(self, rows: int, columns: int) -> Tensor:
        """Return an uninitialised float32 array (rows, columns).

        A file lies in the folder for temporary files (TMPDIR). Raises UserError where that folder is full.
        """
        if not self.is_on_disk or rows * columns == 0:
            return torch.empty(rows, columns)
        descriptor, path = tempfile.mkstemp(prefix="shoal-train-")
        try:
            os.posix_fallocate(descriptor, 0, rows * columns * 4)  # without it, a full disk would kill the process later
            return torch.from_file(path, shared=True, size=rows * columns).view(rows, columns)
        except OSError as error:
            gigabytes = rows * columns * 4 / 1e9
            raise UserError(
                f"train: no room for {gigabytes:.1f} GB in {tempfile.gettempdir()} ({error.strerror}); free some, "
                "name another folder with TMPDIR, or raise train.memory_share"
            ) from None
        finally:
            os.close(descriptor)
            os.unlink(path)  # the mapped array keeps the space until it is freed, however this process ends


def available_memory() -> int:
    """Return the bytes that this process may use: the machine's memory or the limit of its container."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _CONTAINER_LIMITS):
        if path.exists() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)
