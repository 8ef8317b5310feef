"""Secrets stay on their machine: git ignores them, and `docker build` does not send them to the builder."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECRETS = (".env", "docker/.env", "a/b/.env", ".env.production", ".secret", ".secret.new")
NEVER_SENT = (
    *SECRETS, ".git/HEAD", ".venv/spark/bin/python", "var/sample/lake/bronze/events", "jobs/__pycache__/flow.cpython-312.pyc",
    ".pytest_cache/README.md", ".ruff_cache/CACHEDIR.TAG", ".hypothesis/examples", "metastore_db/db.lck", "derby.log",
)  # fmt: skip


def is_ignored_by_git(path: str) -> bool:
    return subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT, check=False).returncode == 0


def is_sent_to_docker(path: str) -> bool:
    """Whether .dockerignore lets a file through: the last pattern that matches it, or a folder above it, decides."""
    parts, sent = path.split("/"), True
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if pattern and not pattern.startswith("#") and any(_to_regex(pattern).fullmatch(name) for name in above):
            sent = line.startswith("!")
    return sent


def _to_regex(pattern: str) -> re.Pattern:
    escaped = re.escape(pattern.strip("/")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*").replace(r"\[", "[")
    return re.compile(escaped.replace(r"\]", "]"))


def copied_files() -> list[str]:
    """Every tracked file that docker/Dockerfile copies from this folder."""
    copies = re.findall(r"^COPY (?!--from)(\S+) ", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    tracked = subprocess.run(["git", "ls-files", *copies], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    missing = [copy for copy in copies if not any(f == copy or f.startswith(f"{copy}/") for f in tracked)]
    assert copies, "docker/Dockerfile copies nothing"
    assert not missing, f"docker/Dockerfile copies what git does not track: {missing}"
    return tracked


@pytest.mark.parametrize("path", SECRETS)
def test_git_ignores_secrets(path):
    assert is_ignored_by_git(path)


@pytest.mark.parametrize("path", ["docker/.env.example", ".dockerignore", ".gitignore", "jobs/flow.py"])
def test_git_keeps_what_belongs_to_the_project(path):
    assert not is_ignored_by_git(path)


@pytest.mark.parametrize("path", NEVER_SENT)
def test_docker_is_not_sent_secrets_tables_and_caches(path):
    assert not is_sent_to_docker(path)


def test_docker_is_sent_every_file_that_the_dockerfile_copies():
    assert [path for path in copied_files() if not is_sent_to_docker(path)] == []
