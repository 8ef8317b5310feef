"""Set-up: the messages of make, the pinned packages, and a Spark environment that needs no variable."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPARK_BIN = Path(sys.prefix) / "bin"

JOB = """
import sys
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
rows = spark.range(9).select("id", (F.col("id") % 3).alias("part"))
rows = rows.mapInArrow(lambda batches: batches, "id long, part long")
rows.write.format("delta").partitionBy("part").save(sys.argv[1])
print(spark.read.format("delta").load(sys.argv[1]).where("part = 1").agg(F.sum("id")).first()[0])
print(spark.conf.get("spark.sql.session.timeZone"), spark.conf.get("spark.sql.shuffle.partitions"))
spark.stop()
"""


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in ("SOURCE", "INPUT", "DAY")}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=clean | variables, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("print('3.9')", "is Python 3.9; Shoal needs 3.11, 3.12 or 3.13"),
        ("print('3.14')", "is Python 3.14; Shoal needs 3.11, 3.12 or 3.13"),
        ("raise SystemExit(1)", "is Python unknown; Shoal needs 3.11, 3.12 or 3.13"),
    ],
)
def test_a_wrong_python_ends_at_once_in_one_line_and_leaves_nothing(tmp_path, python, message):
    fake = tmp_path / "python3"
    fake.write_text(f"#!{sys.executable}\n{python}\n")
    fake.chmod(0o755)
    result = make("setup", f"PYTHON={fake}", f"VENV={tmp_path}/venv")
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert result.returncode != 0
    assert result.stdout == ""
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "venv").exists()


def test_no_python_is_one_line(tmp_path):
    result = make("setup", "PYTHON=no-such-python", f"VENV={tmp_path}/venv")
    assert "set-up: there is no no-such-python here; install Python 3.11, 3.12 or 3.13" in result.stderr


def test_a_source_without_input_and_day_is_refused_before_any_set_up(tmp_path):
    for arguments in ([], ["INPUT=somewhere"], ["DAY=2024-01-01"]):
        result = make("refresh", "SOURCE=mine", *arguments, f"VENV={tmp_path}/venv")
        assert result.returncode != 0
        assert "SOURCE=mine also needs INPUT=<folder or URI> and DAY=<YYYY-MM-DD>" in result.stderr
        assert not (tmp_path / "venv").exists()


def test_help_lists_every_target_a_person_calls():
    shown = re.findall(r"^  ([a-z]+) ", make("help").stdout, re.MULTILINE)
    targets = "help setup refresh test up down worker bi serve bench minilm lint format lock clean"
    assert " ".join(shown) == targets


@pytest.mark.parametrize("name", ["tools", "java", "spark", "train", "airflow"])
def test_every_requirement_is_pinned_with_a_hash_and_names_no_index(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    requirements = re.split(r"\n(?=\S)", text.strip())
    assert requirements
    for requirement in requirements:
        assert re.match(r"[a-z0-9._-]+==\S+", requirement), requirement
        assert "--hash=sha256:" in requirement, requirement
    assert "://" not in text


@pytest.mark.parametrize("started", ["submitted", "in process"])
def test_spark_needs_no_variable(tmp_path, started):
    (tmp_path / "job.py").write_text(JOB)
    trap = tmp_path / "bin" / "python3"
    trap.parent.mkdir()
    trap.write_text("#!/bin/sh\necho the wrong python3 >&2; exit 3\n")
    trap.chmod(0o755)
    command = [SPARK_BIN / "spark-submit"] if started == "submitted" else [SPARK_BIN / "python"]
    result = subprocess.run(
        [*command, tmp_path / "job.py", tmp_path / "table"],
        cwd=tmp_path,
        env={"PATH": f"{trap.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split() == ["12", "UTC", "4"]
    noise = [line for line in result.stderr.splitlines() if "incubator modules" not in line]
    assert noise == []
