"""The one place where model files are read or written.

`<models>/autoencoder/<version>/` holds one model, written whole or not at all; `<models>/autoencoder/champion.json`
names the published one and since which day. A day is encoded with the model that was champion on it, so that a past
day is rebuilt with the model it had.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

from pyarrow import fs

from jobs.errors import UserError

FAMILY = "autoencoder"


def champion(root: str, day: date) -> dict | None:
    """The champion as of `day`: {"version", "since"} with `since` the first day it held, or None before the first."""
    held = [entry for entry in _history(root) if date.fromisoformat(entry["since"]) <= day]
    return max(held, key=lambda entry: entry["since"]) if held else None


def promote(root: str, version: str, since: date) -> None:
    """Make `version` the champion from the day `since` on; the file changes in one step."""
    entries = [entry for entry in _history(root) if entry["since"] != since.isoformat()]
    entries = sorted([*entries, {"version": version, "since": since.isoformat()}], key=lambda entry: entry["since"])
    filesystem, base = _at(root)
    text = json.dumps({"version": entries[-1]["version"], "since": entries[-1]["since"], "history": entries}, indent=1)
    _write_atomically(filesystem, f"{base}/champion.json", text.encode())


def save(root: str, version: str, write: Callable[[Path], None]) -> None:
    """Let `write` fill an empty folder and publish it as `version` in one step; a retry replaces what was there."""
    filesystem, base = _at(root)
    local = isinstance(filesystem, fs.LocalFileSystem)
    if local:
        Path(base).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=base if local else None))
    try:
        write(folder)
        folder.chmod(0o755)
        target = f"{base}/{version}"
        if local:
            _replace_folder(folder, Path(target))
        else:
            fs.copy_files(
                str(folder), target, source_filesystem=fs.LocalFileSystem(), destination_filesystem=filesystem
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read(root: str, version: str, name: str) -> bytes:
    """The bytes of one file of a model; raises UserError where it is missing."""
    filesystem, base = _at(root)
    path = f"{base}/{version}/{name}"
    try:
        with filesystem.open_input_file(path) as file:
            return file.read()
    except (FileNotFoundError, OSError):
        raise UserError(f"models: {path} is missing; train again: shoal train --retrain") from None


def meta(root: str, version: str) -> dict:
    """meta.json of a model: what a person wants to read about it."""
    return json.loads(read(root, version, "meta.json"))


def exists(root: str, version: str) -> bool:
    filesystem, base = _at(root)
    return filesystem.get_file_info(f"{base}/{version}/meta.json").type == fs.FileType.File


def _at(root: str) -> tuple[fs.FileSystem, str]:
    if "://" in root:
        filesystem, path = fs.FileSystem.from_uri(root)
        return filesystem, f"{path}/{FAMILY}"
    return fs.LocalFileSystem(), f"{root}/{FAMILY}"


def _history(root: str) -> list[dict]:
    filesystem, base = _at(root)
    path = f"{base}/champion.json"
    if filesystem.get_file_info(path).type != fs.FileType.File:
        return []
    try:
        with filesystem.open_input_file(path) as file:
            return json.loads(file.read())["history"]
    except (ValueError, KeyError):
        raise UserError(f"models: {path} is damaged; restore it or remove it and train again") from None


def _write_atomically(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
    if isinstance(filesystem, fs.LocalFileSystem):
        temporary = f"{path}.{os.getpid()}"
        Path(temporary).write_bytes(content)
        os.replace(temporary, path)
    else:  # an object store shows a new object whole or not at all
        with filesystem.open_output_stream(path) as file:
            file.write(content)


def _replace_folder(new: Path, target: Path) -> None:
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=target.parent))
        os.replace(target, old / target.name)
        os.replace(new, target)
        shutil.rmtree(old)
    else:
        os.replace(new, target)
