"""The pinned JARs that Spark lacks for Delta, beside Spark's own."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from jobs.errors import UserError
from setup.java import Java
from setup.places import ROOT, Places, put_file, run_quietly, say


class Jar(NamedTuple):
    """One pinned JAR."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def read_lock(path: Path) -> list[Jar]:
    """Return the pinned JARs of a lock file. Raises UserError with file and line for a line that is not one."""
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+):([\w.-]+):([\w.-]+) ([0-9a-f]{64})", line.strip())
        if not match:
            raise UserError(f"{path}, line {number}: '{line}' is not 'group:artifact:version sha256'")
        jars.append(Jar(*match.groups()))
    return jars


def install_jars(target: Places, java: Java, jars: list[Jar]) -> None:
    """Put the pinned JARs beside Spark's own, all or none; those of an earlier lock are removed.

    Raises UserError for a JAR that cannot be fetched or is not the pinned one; nothing has changed then.
    """
    record = target.share / "jars.json"
    installed = json.loads(record.read_text()) if record.exists() else {}
    pinned = {jar.file: jar.sha256 for jar in jars}
    folder = target.spark / "jars"
    if installed == pinned and all((folder / name).exists() for name in pinned):
        return
    say(f"fetching {len(jars)} JARs and checking them")
    with tempfile.TemporaryDirectory(dir=target.share, prefix=".jars-") as temporary:
        fetched = Path(temporary)
        fetch_jars(target, java, jars, fetched)
        for name in installed.keys() - pinned.keys():
            (folder / name).unlink(missing_ok=True)
        # Recorded before they are moved: what a killed run leaves behind is known, and replaced by the next.
        put_file(record, json.dumps(pinned | {name: "" for name in installed.keys() & pinned.keys()}, indent=1))
        for jar in jars:
            os.replace(fetched / jar.file, folder / jar.file)
    put_file(record, json.dumps(pinned, indent=1))


def fetch_jars(target: Places, java: Java, jars: list[Jar], into: Path) -> None:
    """Fetch pinned JARs into a folder. Raises UserError for one that cannot be fetched or is not the pinned one."""
    _resolve(target, java, jars, into)
    for jar in jars:
        _verify(into / jar.file, jar)


def _resolve(target: Places, java: Java, jars: list[Jar], into: Path) -> None:
    """Fetch exactly `jars` with the Ivy that Spark ships: every version is pinned, so nothing is followed further."""
    module = into / "ivy.xml"
    dependencies = "\n".join(
        f"<dependency org={quoteattr(j.group)} name={quoteattr(j.artifact)} rev={quoteattr(j.version)} "
        'transitive="false" conf="*->master"/>'
        for j in jars
    )
    module.write_text(
        f'<ivy-module version="2.0"><info organisation="shoal" module="jars"/><dependencies>{dependencies}'
        "</dependencies></ivy-module>"
    )
    tools = [*(target.spark / "jars").glob("ivy-*.jar"), *(target.spark / "jars").glob("commons-cli-*.jar")]
    command = [str(java.home / "bin" / "java"), f"-Divy.default.ivy.user.dir={into}", *_trust_store()]
    command += ["-cp", os.pathsep.join(map(str, tools)), "org.apache.ivy.Main", "-types", "jar"]
    command += ["-settings", str(ROOT / "setup" / "ivysettings.xml"), "-cache", str(into / "cache")]
    command += ["-ivy", str(module), "-retrieve", f"{into}/[artifact]-[revision].[ext]"]
    run_quietly(command, "fetching the JARs")


def _trust_store() -> list[str]:
    """Return the Java option for the machine's own certificates: a fetched runtime knows only the public ones."""
    store = Path("/etc/ssl/certs/java/cacerts")
    return [f"-Djavax.net.ssl.trustStore={store}"] if store.exists() else []


def _verify(file: Path, jar: Jar) -> None:
    name = f"{jar.group}:{jar.artifact}:{jar.version}"
    if not file.exists():
        raise UserError(f"{name} was not found; is the version in setup/jars.lock right?")
    with file.open("rb") as content:
        checksum = hashlib.file_digest(content, "sha256").hexdigest()
    if checksum != jar.sha256:
        raise UserError(f"{name} has the checksum {checksum}, setup/jars.lock says {jar.sha256}; nothing was installed")
