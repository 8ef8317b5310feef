"""The files of a source under its input folder.

Hidden files, whose name or folder begins with a dot, are not taken. A link to a file of the input folder is. A link to a folder
in it is not followed, because its files are taken where they lie.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from pyarrow import fs

from jobs.config.source_mapping import Lookup, TableMapping
from jobs.errors import UserError
from jobs.storage.files import open_filesystem


def find_files(root: str, mapping: TableMapping | Lookup) -> list[tuple[str, fs.FileInfo]]:
    """Return the files under `root` that the mapping names, as (name relative to root, info), sorted by name.

    Raises UserError where the folder is missing, and for a file that the mapping names and that cannot be taken.
    """
    filesystem, base = open_filesystem(root)
    names = [name for name in list_names(root) if fnmatch(name, mapping.files)]
    if isinstance(filesystem, fs.LocalFileSystem):
        for name in names:
            _check_file(base, name)
    infos = filesystem.get_file_info([f"{base}/{name}" for name in names])
    return [(name, info) for name, info in zip(names, infos, strict=True) if info.type == fs.FileType.File]


def check_any_file(root: str, mappings: Sequence[TableMapping | Lookup]) -> None:
    """Raise UserError where no file of any of these mappings is there, or one cannot be taken."""
    if not any([find_files(root, mapping) for mapping in mappings]):
        patterns = ", ".join(f"{mapping.files} ({mapping.label})" for mapping in mappings)
        raise UserError(f"land: no file {patterns} in {root}; check INPUT= and the source's mapping")


@contextmanager
def open_source_file(root: str, name: str) -> Iterator[BinaryIO]:
    """Open a file for reading at any place. Raises UserError where it is not there any more, or may not be read."""
    filesystem, base = open_filesystem(root)
    try:
        file = filesystem.open_input_file(f"{base}/{name}")
    except FileNotFoundError:
        reason = "it was there a moment ago and is gone; run the step again when the folder is complete"
        raise UserError(f"land: file {name}: {reason}") from None
    except PermissionError:
        raise UserError(f"land: file {name}: this user may not read it; change its permissions") from None
    with file:
        yield file


def list_names(root: str) -> list[str]:
    """Return the names of all files under `root`, relative to it and sorted. Raises UserError where the folder is missing."""
    filesystem, base = open_filesystem(root)
    missing = UserError(f"land: input folder {root} does not exist; name it with INPUT= or SHOAL_INPUT")
    if isinstance(filesystem, fs.LocalFileSystem):
        if not os.path.isdir(base):
            raise missing
        return sorted(_walk(base, ""))
    try:
        infos = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except OSError:
        raise missing from None
    names = (info.path.removeprefix(base).lstrip("/") for info in infos if info.type == fs.FileType.File)
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


def _walk(base: str, folder: str) -> Iterator[str]:
    """Yield the names of the files in a folder of this machine and in its folders."""
    with os.scandir(f"{base}/{folder}") as entries:
        for entry in entries:
            name = f"{folder}{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(base, f"{name}/")
            elif not entry.is_dir():
                yield name
            elif not _is_within(base, name):
                raise UserError(f"land: folder {name}: it is a link out of the input folder; put a copy there")


def _is_within(base: str, name: str) -> bool:
    return Path(base, name).resolve().is_relative_to(Path(base).resolve())


def _check_file(base: str, name: str) -> None:
    """Raise UserError for a file of this machine that cannot be taken."""
    readable = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    if readable != name or not name.isprintable():
        readable = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in readable)
        raise UserError(f"land: file {readable}: its name is not UTF-8, or has control characters; rename it")
    path = Path(base, name)
    if path.is_symlink() and not _is_within(base, name):
        raise UserError(f"land: file {name}: it is a link out of the input folder; put a copy there")
    if path.is_symlink() and not path.exists():
        raise UserError(f"land: file {name}: it is a link to a file that does not exist; remove it")
