import errno
import os

import pytest
import torch

from jobs.autoencoder import array_storage
from jobs.autoencoder.array_storage import COPIES, ArrayStorage
from jobs.errors import UserError


def test_arrays_are_on_disk_if_their_copies_exceed_the_memory_share(monkeypatch):
    monkeypatch.setattr(array_storage, "available_memory", lambda: 2 * COPIES * 4 * 100 * 5)
    assert [ArrayStorage(n, 5, memory_share=0.5).is_on_disk for n in (100, 101)] == [False, True]


def test_an_array_on_disk_holds_its_values_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(array_storage.tempfile, "tempdir", str(tmp_path))
    array = ArrayStorage(10, 3, memory_share=0.0).allocate(10, 3)
    array[:] = torch.arange(30.0).view(10, 3)
    assert array.sum() == 435
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_in_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(array_storage.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(array_storage.os, "posix_fallocate", fail)
    with pytest.raises(UserError, match=r"no room for 4.0 GB in .* \(No space left on device\); free some"):
        ArrayStorage(10, 3, memory_share=0.0).allocate(1000, 1_000_000)
    assert not list(tmp_path.iterdir())
