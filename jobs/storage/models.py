"""The one place where model files are read or written.

`<models>/<family>/<version>/` holds one model, written whole or not at all. `<models>/<family>/champion.json` names the
champion, and the day since which it is. The family is the autoencoder where a function is not told another. A day is encoded
with the model that was champion on it, so that a past day is rebuilt with the model it had.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from pyarrow import fs

from jobs import flow
from jobs.errors import UserError
from jobs.storage.files import open_filesystem, read_if_exists, replace_durably, sync_files, write_atomically
from jobs.storage.lock import hold_folder

FAMILY, CUSTOMER_VALUES, CUSTOMER_OUTCOMES, RECOMMENDATIONS, TEXT_MODELS = flow.MODEL_FAMILIES
OUTCOME_NETWORKS = "outcome_networks"  # contestants, no champions that people choose
BACKTEST = "backtest.onnx"  # in a model's folder: the encoder that the same training gives as of an earlier day
GROUPS, BACKTEST_GROUPS = "groups.onnx", "backtest_groups.onnx"  # the same of customers with groups of inputs
GROUPS_GOLDEN = "groups_golden.json"
SEQUENCE, BACKTEST_SEQUENCE = "sequence.onnx", "backtest_sequence.onnx"  # likewise, of the events in order
_REPLACED = ".old-"  # begins the name of a folder with a version that another takes the place of
LEARNED_EMBEDDING = "learned"  # the representation of a model for which the gate chose no other


def champion(root: str, day: date, family: str = FAMILY) -> dict | None:
    """Return the entry of champion_history() that holds on `day`, or None before the first."""
    entries = [entry for entry in champion_history(root, family) if date.fromisoformat(entry["since"]) <= day]
    return max(entries, key=lambda entry: entry["since"]) if entries else None


def is_due(root: str, day: date, every_days: int, family: str = FAMILY) -> bool:
    """Return whether the champion of the day has been it for `every_days` days or more, or there is none."""
    entry = champion(root, day, family)
    return entry is None or (day - date.fromisoformat(entry["since"])).days >= every_days


def promote(root: str, version: str, since: date, representation: str | None = None, family: str = FAMILY) -> None:
    """Make `version` the champion from the day `since` on, in one step.

    `representation` says which output of the model customers are clustered by; without it, the one last chosen for the
    version. Raises UserError where the version is not complete.
    """
    with _hold(root, family):
        _promote(root, version, since, representation, family)


def _promote(root: str, version: str, since: date, representation: str | None, family: str) -> None:
    """Add an entry to champion.json; the lock of the family is held."""
    if not exists(root, version, family):
        raise UserError(f"models: {root}/{family}/{version} is not complete and cannot be champion; run shoal train --retrain")
    history = champion_history(root, family)
    if representation is None:
        chosen = (entry["representation"] for entry in reversed(history) if entry["version"] == version)
        representation = next(chosen, LEARNED_EMBEDDING)
    new = {"version": version, "since": since.isoformat(), "representation": representation}
    entries = [entry for entry in history if entry["since"] != new["since"]]
    entries = sorted([*entries, new], key=lambda entry: entry["since"])
    _write_json(root, "champion.json", entries[-1] | {"history": entries}, family)


def name_version(day: date, content: str) -> str:
    """Return the version of a model of a day, by a hash of what it is: the same model again has the same version."""
    return f"{day}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def save_champion(
    root: str, version: str, write: Callable[[Path], None], since: date, family: str, representation: str | None = None
) -> None:
    """Save a model, unless the same version is there already, and make it champion from `since` on, as promote() does."""
    if not exists(root, version, family):
        save(root, version, write, family)
    promote(root, version, since, representation, family)


def rollback(root: str, since: date | None = None, family: str = FAMILY) -> dict:
    """Make the model that was champion before the newest one champion again; return its {"version", "since"}.

    It is champion from `since` on. Without `since` it takes the place of the newest one from that one's first day.
    Raises UserError where no other model was champion before.
    """
    with _hold(root, family):
        version, first = _find_previous(root, since, family)
        _promote(root, version, first, None, family)
    return {"version": version, "since": first.isoformat()}


def _find_previous(root: str, since: date | None, family: str) -> tuple[str, date]:
    """Return the version that rollback() makes champion, and its first day."""
    entries = champion_history(root, family)
    earlier = [entry for entry in entries if entry["version"] != entries[-1]["version"]]
    if not earlier:
        raise UserError(
            f"models: {root}/{family}/champion.json names no champion before this one; there is nothing to go back to"
        )
    version, replaced_since = earlier[-1]["version"], date.fromisoformat(entries[-1]["since"])
    if since and since < replaced_since:
        raise UserError(
            f"models: {entries[-1]['version']} is champion since {replaced_since}, which is after {since}; name a later day"
        )
    return version, since or replaced_since


def champion_history(root: str, family: str = FAMILY) -> list[dict]:
    """Return the champions, oldest first, each as {"version", "since", "representation"}; `since` in ISO 8601."""
    path = f"{_family_folder(root, family)}/champion.json"
    if (content := read_if_exists(path)) is None:
        return []
    try:
        entries = json.loads(content)["history"]
        required = [{"version": e["version"], "since": date.fromisoformat(e["since"]).isoformat()} for e in entries]
        return [{"representation": LEARNED_EMBEDDING} | e | r for e, r in zip(entries, required, strict=True)]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"models: {path} is damaged; restore it or remove it and train again") from None


def versions(root: str, family: str = FAMILY) -> list[str]:
    """Return the names of the complete models in order; a name begins with the model's day."""
    filesystem, base = open_filesystem(_family_folder(root, family))
    entries = filesystem.get_file_info(fs.FileSelector(base, allow_not_found=True))
    names = (entry.base_name for entry in entries if entry.type == fs.FileType.Directory)
    return sorted(name for name in names if not name.startswith(".") and exists(root, name, family))


def save(root: str, version: str, write: Callable[[Path], None], family: str = FAMILY) -> None:
    """Let `write` fill an empty folder and publish it as `version` in one step; a retry replaces an earlier folder.

    Raises UserError where the folder cannot be written.
    """
    filesystem, base = open_filesystem(_family_folder(root, family))
    is_local = isinstance(filesystem, fs.LocalFileSystem)
    with _write_errors(f"{base}/{version}"):
        if is_local:
            Path(base).mkdir(parents=True, exist_ok=True)
            for leftover in Path(base).glob(f".{version}-*"):  # by a run of the same version that was killed
                shutil.rmtree(leftover)
        folder = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=base if is_local else None))
        try:
            write(folder)
            folder.chmod(0o777 & ~_umask())  # a temporary folder is its owner's alone, whatever the umask is
            if is_local:
                with _hold(root, family):
                    _replace_folder(folder, Path(base) / version)
            else:
                _upload_folder(folder, filesystem, f"{base}/{version}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def read(root: str, version: str, name: str, family: str = FAMILY) -> bytes:
    """Return the bytes of one file of a model. Raises UserError where it is missing or cannot be read."""
    filesystem, path = open_filesystem(f"{_family_folder(root, family)}/{version}/{name}")
    if filesystem.get_file_info(path).type == fs.FileType.NotFound and _is_moved_away(root, version, family):
        with _hold(root, family):
            pass  # a killed process has moved the version away; it is in place now
    try:
        with filesystem.open_input_file(path) as file:
            return file.read()
    except FileNotFoundError:
        raise UserError(f"models: {path} is missing; train again: shoal train --retrain") from None
    except OSError as error:
        raise UserError(f"models: {path} cannot be read: {error}") from None


def meta(root: str, version: str, family: str = FAMILY) -> dict:
    """Return meta.json of a model: its settings, sizes, figures and inputs."""
    return _read_json(root, version, "meta.json", family)


def golden(root: str, version: str) -> dict[str, list]:
    """Return example rows, and the outputs that an encoder must give for them before it is used.

    {"features": rows of numbers (NaN and infinite among them), "attributes": rows of texts, "vector": rows,
    "reconstruction_error" and "isolation_score": one per row}.
    """
    return _read_golden(root, version, "golden.json", ["features"])


def groups_golden(root: str, version: str, groups: Collection[str]) -> dict[str, list]:
    """Return the example rows of the graph of groups as golden() does: `groups` are inputs, learned embeddings outputs."""
    return _read_golden(root, version, GROUPS_GOLDEN, ["features", *groups])


def _read_golden(root: str, version: str, name: str, matrices: Collection[str]) -> dict[str, list]:
    rows = _read_json(root, version, name)
    parsed = {key: [[float("nan") if value is None else float(value) for value in row] for row in rows[key]] for key in matrices}
    return rows | parsed


def checkpoint_path(root: str, version: str) -> str:
    """Return where the checkpoint of a training of `version` lies until it has ended."""
    return open_filesystem(f"{_family_folder(root)}/.checkpoint-{version}.safetensors")[1]


def read_checkpoint(root: str, version: str) -> bytes | None:
    """Return the last checkpoint of `version`, or None."""
    return read_if_exists(_checkpoint(root, version))


def write_checkpoint(root: str, version: str, content: bytes) -> None:
    """Replace the checkpoint of `version` in one step. Raises UserError where it cannot be written."""
    with _write_errors(checkpoint_path(root, version)):
        write_atomically(_checkpoint(root, version), content)


def remove_checkpoint(root: str, version: str) -> None:
    """Remove the checkpoint of `version`, if there is one."""
    filesystem, path = open_filesystem(_checkpoint(root, version))
    if filesystem.get_file_info(path).type == fs.FileType.File:
        filesystem.delete_file(path)


def read_search(root: str) -> dict | None:
    """Return the result of the last search, or None. Raises UserError where its file is damaged."""
    path = f"{_family_folder(root)}/search.json"
    if (content := read_if_exists(path)) is None:
        return None
    try:
        result = json.loads(content)
        return result | {"search": str(result["search"]), "settings": dict(result["settings"])}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"models: {path} is damaged; remove it or search again: shoal train --search") from None


def write_search(root: str, result: dict) -> None:
    """Keep the result of a search for later trainings, in one step."""
    _write_json(root, "search.json", result)


def read_last_tuning(root: str) -> dict | None:
    """Return what the last tuning of the text model gave, kept or not, or None. Raises UserError where its file is damaged."""
    path = f"{_family_folder(root, TEXT_MODELS)}/last_tuning.json"
    if (content := read_if_exists(path)) is None:
        return None
    try:
        result = json.loads(content)
        return result | {"day": date.fromisoformat(result["day"]).isoformat(), "kept": bool(result["kept"])}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"models: {path} is damaged; remove it or tune again: shoal train --texts") from None


def write_last_tuning(root: str, result: dict) -> None:
    """Keep what a tuning gave, by which the next one is due, in one step."""
    _write_json(root, "last_tuning.json", result, TEXT_MODELS)


def local_root(root: str) -> Path | None:
    """Return the root as a folder of this machine, or None where it is an object store."""
    filesystem, path = open_filesystem(root)
    return Path(path) if isinstance(filesystem, fs.LocalFileSystem) else None


def exists(root: str, version: str, family: str = FAMILY) -> bool:
    """Return whether the version is there and complete; a path is no version."""
    filesystem, base = open_filesystem(_family_folder(root, family))
    return "/" not in version and filesystem.get_file_info(f"{base}/{version}/meta.json").type == fs.FileType.File


def _umask() -> int:
    umask = os.umask(0o077)  # can only be read by setting it
    os.umask(umask)
    return umask


def _is_moved_away(root: str, version: str, family: str) -> bool:
    folder = local_root(_family_folder(root, family))
    return folder is not None and any(folder.glob(f"{_REPLACED}*/{version}"))


def _family_folder(root: str, family: str = FAMILY) -> str:
    return f"{root}/{family}"


def _checkpoint(root: str, version: str) -> str:
    return f"{_family_folder(root)}/.checkpoint-{version}.safetensors"


def _read_json(root: str, version: str, name: str, family: str = FAMILY) -> dict:
    try:
        return json.loads(read(root, version, name, family))
    except ValueError:
        raise UserError(
            f"models: {_family_folder(root, family)}/{version}/{name} is damaged; train again: shoal train --retrain"
        ) from None


def _write_json(root: str, name: str, values: dict, family: str = FAMILY) -> None:
    path = f"{_family_folder(root, family)}/{name}"
    with _write_errors(path):
        write_atomically(path, json.dumps(values, indent=1).encode())


@contextmanager
def _write_errors(path: str) -> Iterator[None]:
    """Turn a failure to write into one line that names the path."""
    try:
        yield
    except OSError as error:
        raise UserError(f"models: {path} cannot be written: {error}") from None


def _upload_folder(folder: Path, filesystem: fs.FileSystem, target: str) -> None:
    """Copy a folder to an object store; the file by which exists() knows a complete model comes last."""
    filesystem.create_dir(target, recursive=True)
    for file in sorted(folder.iterdir(), key=lambda file: file.name == "meta.json"):
        with filesystem.open_output_stream(f"{target}/{file.name}") as stream:
            stream.write(file.read_bytes())


def _replace_folder(new: Path, target: Path) -> None:
    """Put a folder in the place of an earlier one of this name. _restore() ends what a killed process has begun."""
    sync_files(new)
    if not target.exists():
        replace_durably(new, target)
        return
    old = Path(tempfile.mkdtemp(prefix=_REPLACED, dir=target.parent))
    replace_durably(target, old / target.name)
    replace_durably(new, target)
    shutil.rmtree(old)


def _restore(base: Path) -> None:
    """Put versions back that a killed process has moved away without putting another in their place; the lock is held."""
    for old in base.glob(f"{_REPLACED}*"):
        for folder in old.iterdir():
            if not (base / folder.name).exists():
                replace_durably(folder, base / folder.name)
        shutil.rmtree(old)


@contextmanager
def _hold(root: str, family: str) -> Iterator[None]:
    """Hold the lock of a family of models, so that a change which reads first cannot undo another; all versions are in place."""
    with _write_errors(_family_folder(root, family)), hold_folder(_family_folder(root, family)):
        if folder := local_root(_family_folder(root, family)):
            _restore(folder)
        yield
