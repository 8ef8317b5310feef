"""Fixtures of the DAG tests, which run in the Airflow environment on a stand-in project."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dags.stand_in import SHARED, Project


@pytest.fixture
def shared() -> Project:
    """The stand-in project of this process, with an empty plan and journal."""
    SHARED.plan()
    (SHARED.var / "journal").unlink(missing_ok=True)
    return SHARED


@pytest.fixture(scope="session")
def initialised(tmp_path_factory) -> Path:
    """The folder of a metadata database, which tests copy because creating one takes seconds."""
    project = Project(tmp_path_factory.mktemp("initialised") / "home")
    subprocess.run([sys.executable, "-m", "dags.local", "init"], env=project.environment(), check=True)
    return project.var / "airflow"


@pytest.fixture
def project(tmp_path, initialised) -> Iterator[Project]:
    """A stand-in project for tests that start processes of their own, with a metadata database."""
    yield from _project(tmp_path / "home", initialised)


@pytest.fixture
def other_project(tmp_path, initialised) -> Iterator[Project]:
    """Another stand-in project on the same machine."""
    yield from _project(tmp_path / "other_home", initialised)


def _project(home: Path, initialised: Path) -> Iterator[Project]:
    project = Project(home)
    (project.var / "airflow").mkdir()
    for name in ("airflow.db", "initialised"):
        shutil.copy(initialised / name, project.var / "airflow")
    yield project
    if (project.var / "airflow" / "session.json").exists():  # an Airflow that a failed test has left
        subprocess.run([sys.executable, "-m", "dags.local", "down"], env=project.environment(), check=True)
