"""Files at a path of this machine or at an object store's URI."""

import os
from pathlib import Path

from pyarrow import fs


def open_filesystem(root: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a root, and the root's absolute path in it."""
    if "://" in root:
        return fs.FileSystem.from_uri(root)
    return fs.LocalFileSystem(), str(Path(root).absolute())


def read_if_exists(path: str) -> bytes | None:
    """Return the bytes of a file, or None where there is no file."""
    filesystem, base = open_filesystem(path)
    if filesystem.get_file_info(base).type != fs.FileType.File:
        return None
    with filesystem.open_input_file(base) as file:
        return file.read()


def write_atomically(path: str, content: bytes) -> None:
    """Write a file whole or not at all, and create its folder. Raises OSError where it cannot be written."""
    filesystem, base = open_filesystem(path)
    filesystem.create_dir(base.rsplit("/", 1)[0], recursive=True)
    if not isinstance(filesystem, fs.LocalFileSystem):
        with filesystem.open_output_stream(base) as file:  # an object store shows a new object whole or not at all
            file.write(content)
        return
    replace_durably(_write_beside(base, content), base)


def replace_durably(source: str | Path, target: str | Path) -> None:
    """Rename a file or folder of this machine in one step, and keep the new name through a power cut."""
    os.replace(source, target)
    sync_folder(Path(target).parent)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder of this machine down to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    """Write a folder of this machine and the files in it down to the disk."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def create_if_missing(path: str, content: bytes) -> bool:
    """Write a file whole unless there is one already; return whether it was written. The folder is created.

    On this machine only one of two processes can create it. An object store is asked first.
    """
    filesystem, base = open_filesystem(path)
    if not isinstance(filesystem, fs.LocalFileSystem):
        if filesystem.get_file_info(base).type == fs.FileType.File:
            return False
        write_atomically(path, content)
        return True
    os.makedirs(os.path.dirname(base), exist_ok=True)
    temporary = _write_beside(base, content)
    try:
        os.link(temporary, base)  # fails where there is a file, unlike a rename
    except FileExistsError:
        return False
    finally:
        os.remove(temporary)
    return True


def _write_beside(base: str, content: bytes) -> str:
    """Write a hidden file of this process into the folder of the file `base`, down to the disk; return its path."""
    folder, name = base.rsplit("/", 1)
    temporary = f"{folder}/.{name}.{os.getpid()}.new"
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary
