"""Fixtures of the DAG tests, which run in the Airflow environment against a stand-in project."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dags.stand_in import SHARED, Project


@pytest.fixture
def shared() -> Project:
    """The stand-in project of this process, its plan and journal empty."""
    SHARED.plan()
    (SHARED.var / "journal").unlink(missing_ok=True)
    return SHARED


@pytest.fixture(scope="session")
def initialised(tmp_path_factory) -> Path:
    """The folder of a metadata database made by `init`, to be copied: making one takes seconds."""
    made = Project(tmp_path_factory.mktemp("initialised") / "home")
    subprocess.run([sys.executable, "-m", "dags.local", "init"], env=made.environment(), check=True)
    return made.var / "airflow"


@pytest.fixture
def project(tmp_path, initialised) -> Project:
    """A stand-in project for tests that start processes of their own, its metadata database made."""
    made = Project(tmp_path / "home")
    (made.var / "airflow").mkdir()
    for name in ("airflow.db", "initialised"):
        shutil.copy(initialised / name, made.var / "airflow")
    return made
