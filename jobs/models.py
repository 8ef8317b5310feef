"""The one place where model files are read or written.

`<models>/autoencoder/<version>/` holds one model, written whole or not at all; `<models>/autoencoder/champion.json`
names the published one and since which day. A day is encoded with the model that was champion on it, so that a past
day is rebuilt with the model it had.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from pyarrow import fs

from jobs.errors import UserError

FAMILY = "autoencoder"
BACKTEST = "backtest.onnx"  # in a model's folder: the encoder as the same training gives it as of an earlier day
LEARNED = "learned"  # the representation of a model of which nothing else was decided


def champion(root: str, day: date) -> dict | None:
    """The champion as of `day`, as in reigns(), with `since` the first day it held, or None before the first."""
    held = [entry for entry in reigns(root) if date.fromisoformat(entry["since"]) <= day]
    return max(held, key=lambda entry: entry["since"]) if held else None


def promote(root: str, version: str, since: date, representation: str | None = None) -> None:
    """Make `version` the champion from the day `since` on; the file changes in one step.

    `representation` says by what of it customers are clustered; without it, what was last decided for the version.
    Raises UserError where the version is not there whole.
    """
    if not exists(root, version):
        raise UserError(f"models: {root}/{FAMILY}/{version} is not complete and cannot be champion; run shoal train --retrain")
    known = reigns(root)
    if representation is None:
        representation = next((one["representation"] for one in reversed(known) if one["version"] == version), LEARNED)
    new = {"version": version, "since": since.isoformat(), "representation": representation}
    entries = sorted([*(e for e in known if e["since"] != new["since"]), new], key=lambda entry: entry["since"])
    filesystem, base = _at(root)
    text = json.dumps(entries[-1] | {"history": entries}, indent=1)
    with _naming(f"{base}/champion.json"):
        _write_atomically(filesystem, f"{base}/champion.json", text.encode())


def rollback(root: str, since: date | None = None) -> dict:
    """Make the model that was champion before the newest one champion again; returns its {"version", "since"}.

    From `since` on; without it from the day the newest one became champion, which then never was.
    Raises UserError where no other model was champion before.
    """
    entries = reigns(root)
    before = [entry for entry in entries if entry["version"] != entries[-1]["version"]]
    if not before:
        raise UserError(
            f"models: {root}/{FAMILY}/champion.json names no champion before this one; there is nothing to go back to"
        )
    version, undone = before[-1]["version"], date.fromisoformat(entries[-1]["since"])
    if since and since < undone:
        raise UserError(f"models: {entries[-1]['version']} is champion since {undone}, which is after {since}; name a later day")
    promote(root, version, since or undone)
    return {"version": version, "since": (since or undone).isoformat()}


def reigns(root: str) -> list[dict]:
    """Who was champion since when, oldest first: {"version", "since", "representation"} each."""
    filesystem, base = _at(root)
    path = f"{base}/champion.json"
    if (content := _read_if_there(filesystem, path)) is None:
        return []
    try:
        entries = json.loads(content)["history"]
        return [
            {"representation": LEARNED} | e | {"version": e["version"], "since": date.fromisoformat(e["since"]).isoformat()}
            for e in entries
        ]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"models: {path} is damaged; restore it or remove it and train again") from None


def versions(root: str) -> list[str]:
    """The models that are there whole, by name, which begins with their day."""
    filesystem, base = _at(root)
    found = filesystem.get_file_info(fs.FileSelector(base, allow_not_found=True))
    names = (entry.base_name for entry in found if entry.type == fs.FileType.Directory)
    return sorted(name for name in names if not name.startswith(".") and exists(root, name))


def save(root: str, version: str, write: Callable[[Path], None]) -> None:
    """Let `write` fill an empty folder and publish it as `version` in one step; a retry replaces what was there.

    Raises UserError where the folder cannot be written.
    """
    filesystem, base = _at(root)
    local = isinstance(filesystem, fs.LocalFileSystem)
    target = f"{base}/{version}"
    with _naming(target):
        if local:
            Path(base).mkdir(parents=True, exist_ok=True)
            for left in Path(base).glob(f".{version}-*"):  # by a run of the same version that was killed
                shutil.rmtree(left)
        folder = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=base if local else None))
        try:
            write(folder)
            folder.chmod(0o755)  # a temporary folder is its maker's alone; the encoder may run as someone else
            if local:
                _replace_folder(folder, Path(target))
            else:
                filesystem.create_dir(target, recursive=True)
                # Object by object, so the one by which `exists` knows a whole model comes last.
                for file in sorted(folder.iterdir(), key=lambda file: file.name == "meta.json"):
                    with filesystem.open_output_stream(f"{target}/{file.name}") as stream:
                        stream.write(file.read_bytes())
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def read(root: str, version: str, name: str) -> bytes:
    """The bytes of one file of a model; raises UserError where it is missing or cannot be read."""
    filesystem, base = _at(root)
    path = f"{base}/{version}/{name}"
    try:
        with filesystem.open_input_file(path) as file:
            return file.read()
    except FileNotFoundError:
        raise UserError(f"models: {path} is missing; train again: shoal train --retrain") from None
    except OSError as error:
        raise UserError(f"models: {path} cannot be read: {error}") from None


def meta(root: str, version: str) -> dict:
    """meta.json of a model: what a person wants to read about it."""
    return _parsed(root, version, "meta.json")


def golden(root: str, version: str) -> dict[str, list]:
    """Rows that an encoder must answer as torch did, before it is used.

    {"features": rows of numbers (NaN and infinite among them), "attributes": rows of texts, "vector": rows,
    "reconstruction_error" and "isolation_score": one per row}.
    """
    found = _parsed(root, version, "golden.json")
    found["features"] = [[float("nan") if value is None else float(value) for value in row] for row in found["features"]]
    return found


def checkpoint_path(root: str, version: str) -> str:
    """Where the checkpoint of a training of `version` lies until it has ended."""
    return f"{_at(root)[1]}/.checkpoint-{version}.safetensors"


def read_checkpoint(root: str, version: str) -> bytes | None:
    """What write_checkpoint last wrote, or None."""
    return _read_if_there(_at(root)[0], checkpoint_path(root, version))


def write_checkpoint(root: str, version: str, content: bytes) -> None:
    """Replace the checkpoint of `version` in one step; raises UserError where it cannot be written."""
    path = checkpoint_path(root, version)
    with _naming(path):
        _write_atomically(_at(root)[0], path, content)


def remove_checkpoint(root: str, version: str) -> None:
    """Remove the checkpoint of `version`, if there is one."""
    filesystem, path = _at(root)[0], checkpoint_path(root, version)
    if filesystem.get_file_info(path).type == fs.FileType.File:
        filesystem.delete_file(path)


def read_search(root: str) -> dict | None:
    """What write_search last wrote, or None."""
    filesystem, base = _at(root)
    path = f"{base}/search.json"
    if (content := _read_if_there(filesystem, path)) is None:
        return None
    try:
        found = json.loads(content)
        return found | {"search": str(found["search"]), "settings": dict(found["settings"])}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"models: {path} is damaged; remove it or search again: shoal train --search") from None


def write_search(root: str, found: dict) -> None:
    """Keep what a search found, for trainings to come; the file changes in one step."""
    filesystem, base = _at(root)
    with _naming(f"{base}/search.json"):
        _write_atomically(filesystem, f"{base}/search.json", json.dumps(found, indent=1).encode())


def local(root: str) -> Path | None:
    """The root as a folder of this machine; None where it is an object store."""
    filesystem, base = _at(root)
    return Path(base).parent if isinstance(filesystem, fs.LocalFileSystem) else None


def exists(root: str, version: str) -> bool:
    """Whether the version is there whole; a path is no version."""
    filesystem, base = _at(root)
    return "/" not in version and filesystem.get_file_info(f"{base}/{version}/meta.json").type == fs.FileType.File


def _parsed(root: str, version: str, name: str) -> dict:
    try:
        return json.loads(read(root, version, name))
    except ValueError:
        raise UserError(f"models: {root}/{FAMILY}/{version}/{name} is damaged; train again: shoal train --retrain") from None


def _at(root: str) -> tuple[fs.FileSystem, str]:
    if "://" in root:
        filesystem, path = fs.FileSystem.from_uri(root)
        return filesystem, f"{path}/{FAMILY}"
    return fs.LocalFileSystem(), f"{root}/{FAMILY}"


def _read_if_there(filesystem: fs.FileSystem, path: str) -> bytes | None:
    if filesystem.get_file_info(path).type != fs.FileType.File:
        return None
    with filesystem.open_input_file(path) as file:
        return file.read()


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turn a failure to write into one line that names what could not be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"models: {path} cannot be written: {error}") from None


def _write_atomically(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
    if isinstance(filesystem, fs.LocalFileSystem):
        temporary = f"{path}.new"
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
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
