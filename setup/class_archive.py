"""A class archive of the JVM: a small job is run once, and later JVMs map the classes it loaded."""

import hashlib
import os
import tempfile
import time
from pathlib import Path

from jobs.errors import UserError
from setup.java import Java
from setup.places import ROOT, Places, archive_path, put_file, run_quietly, say


def build_class_archive(target: Places, java: Java) -> None:
    """Run a small job once and keep the classes it loaded, ready to map; redone when Java, a JAR or the job changes."""
    job = ROOT / "setup" / "rehearsal.py"
    key = archive_key(target, java, job)
    record = target.share / "classes.key"
    if archive_path(target).exists() and record.exists() and record.read_text() == key:
        return
    say("rehearsing a small Spark job once, so that later ones start faster (about half a minute)")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=target.share, prefix=".classes-") as folder:
        archive = Path(folder) / "classes.jsa"
        options = f"-XX:TieredStopAtLevel=1 -XX:ArchiveClassesAtExit={archive} -Xlog:cds*=off -Xlog:class+path=off"
        submit = [str(target.spark / "bin" / "spark-submit"), "--master", "local[2]"]
        submit += ["--conf", f"spark.driver.defaultJavaOptions={options}", str(job), folder]
        # The caller's variables for another Spark must not reach this one.
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_"))}
        run_quietly(submit, "the rehearsal", env=variables, cwd=folder)
        if not archive.exists():
            raise UserError("the rehearsal ran, but Java wrote no class archive; run it with another Java 17 or 21")
        os.replace(archive, archive_path(target))
    put_file(record, key)
    say(f"class archive of {archive_path(target).stat().st_size // 2**20} MB made in {time.monotonic() - started:.0f} s")


def archive_key(target: Places, java: Java, job: Path) -> str:
    """Return a hash of what an archive is made from: the Java build, the JARs as Java checks them, the rehearsal."""
    parts = [str(java.home), java.version, str(target.spark), hashlib.sha256(job.read_bytes()).hexdigest()]
    runtime = [(java.home / "release"), *sorted((java.home / "lib" / "server").glob("libjvm.*"))]
    for file in [*runtime, java.home / "bin" / "java", *sorted((target.spark / "jars").glob("*.jar"))]:
        if file.exists():
            status = file.stat()
            parts.append(f"{file.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
