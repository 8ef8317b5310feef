"""A Spark session of this machine: what it listens on, where it spills, and how its JVM compiles."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SESSION = """
import json, os, stat
from pathlib import Path
from jobs.engine.session import open_session

spark = open_session("test", is_short=True)
jvm = spark._jvm.ProcessHandle.current().pid()
inodes = {os.readlink(fd) for fd in Path(f"/proc/{jvm}/fd").iterdir() if fd.is_symlink()}
listening = []
for table in ("/proc/net/tcp", "/proc/net/tcp6"):
    for line in Path(table).read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            listening.append(fields[1].split(":")[0])
folder = spark.conf.get("spark.local.dir")
options = Path(f"/proc/{jvm}/cmdline").read_text().split("\\0")
print(json.dumps({
    "listening": listening, "authenticate": spark.conf.get("spark.authenticate"), "folder": folder,
    "mode": oct(stat.S_IMODE(os.stat(folder).st_mode)), "rows": spark.range(10).repartition(2).count(),
    "options": options,
}))
spark.stop()
"""
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F")  # as the kernel writes 127.0.0.1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the sockets of a process in /proc")
def test_a_session_listens_on_the_loopback_address_only_and_spills_where_nobody_else_can_read():
    others = ("PYSPARK_SUBMIT_ARGS", "SPARK_SUBMIT_OPTS")
    environment = {name: value for name, value in os.environ.items() if name not in others}
    run = subprocess.run([sys.executable, "-c", SESSION], env=environment, capture_output=True, text=True, check=True)
    seen = json.loads(run.stdout.splitlines()[-1])
    assert len(seen["listening"]) >= 2, "the driver and its block manager listen"
    assert set(seen["listening"]) <= set(LOOPBACK)
    assert (seen["authenticate"], seen["mode"], seen["rows"]) == ("true", "0o700", 10)
    assert "-XX:TieredStopAtLevel=1" in seen["options"], "the compiler for short work"
    assert not Path(seen["folder"]).exists()
