import errno
import os

import pytest
import torch

from jobs.autoencoder import room
from jobs.autoencoder.room import COPIES, Room
from jobs.errors import UserError


def test_arrays_are_on_disk_once_their_copies_take_more_than_the_share(monkeypatch):
    monkeypatch.setattr(room, "memory", lambda: 2 * COPIES * 4 * 100 * 5)
    assert [Room(n, 5, share=0.5).on_disk for n in (100, 101)] == [False, True]


def test_an_array_on_disk_holds_what_is_put_there_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(room.tempfile, "tempdir", str(tmp_path))
    array = Room(10, 3, share=0.0).new(10, 3)
    array[:] = torch.arange(30.0).view(10, 3)
    assert array.sum() == 435
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_in_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(room.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(room.os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"no room for 4.0 GB in .* \(No space left on device\); free some"):
        Room(10, 3, share=0.0).new(1000, 1_000_000)
    assert not list(tmp_path.iterdir())
