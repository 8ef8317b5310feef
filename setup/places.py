"""Where set-up puts things, and the small tools of its parts."""

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from jobs.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


class Places(NamedTuple):
    """Where set-up puts things: the environment, the Spark home in it, and a folder for everything else."""

    environment: Path
    spark: Path
    share: Path


def find_places() -> Places:
    """Return the places of the running environment. Raises UserError where it holds no pyspark."""
    spec = find_spec("pyspark")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{sys.executable} has no pyspark; run this with the Spark environment's Python")
    environment = Path(sys.prefix)
    return Places(environment, Path(next(iter(spec.submodule_search_locations))), environment / "share" / "shoal")


def put_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file in one step, as a new one: files of an environment may be links into a shared cache."""
    if path.exists() and path.read_text() == text:
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(text)
    os.chmod(file.name, mode)
    os.replace(file.name, path)


def run_quietly(command: list[str], what: str, **options) -> None:
    """Run a command. Where it fails, its last lines go to the error stream, and UserError says what failed."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines()
        print("\n".join(lines[-25:]), file=sys.stderr)
        raise UserError(f"{what} failed with exit code {result.returncode}; its last lines are above")


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"set-up: {text}", flush=True)
