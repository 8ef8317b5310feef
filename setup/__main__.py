"""`python -m setup --uv UV`: install what is missing or out of date."""

import argparse
import fcntl
import os
import shutil
import sys

import setup
from jobs.errors import UserError
from setup.configuration import write_configuration
from setup.jars import install_jars, read_lock
from setup.java import fetch_java, find_java, wrap_without_vectors
from setup.places import ROOT, Places, find_places
from setup.text_models import install_minilm


def main() -> int:
    """Install every part; print one line per thing done, one line for an error."""
    parser = argparse.ArgumentParser(prog="python -m setup", description=setup.__doc__.split("\n")[0])
    parser.add_argument("--uv", required=True, help="the uv that fetches a Java runtime where the machine has none")
    parser.add_argument("--minilm", action="store_true", help="also fetch the small transformer for texts")
    options = parser.parse_args()
    try:
        install(find_places(), options.uv, options.minilm)
    except UserError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    return 0


def install(target: Places, uv: str, with_minilm: bool = False) -> None:
    """Bring every part up to date. Raises UserError in one line where that cannot be done."""
    target.share.mkdir(parents=True, exist_ok=True)
    with (target.share / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in target.share.glob(".*-*"):  # by a run that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        java = find_java(os.environ) or fetch_java(target, uv)
        if not java.has_vectors:
            java = java._replace(home=wrap_without_vectors(java.home, target.share / "java"))
        install_jars(target, java, read_lock(ROOT / "setup" / "jars.lock"))
        write_configuration(target, java)
        if with_minilm:
            install_minilm(target, java, read_lock(ROOT / "setup" / "minilm.lock"))


if __name__ == "__main__":
    sys.exit(main())
