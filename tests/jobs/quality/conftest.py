"""A lake, suites and settings of a test's own."""

import json

import pytest

from jobs.quality import suites
from jobs.storage.lake import Lake
from tests.jobs import planted


@pytest.fixture
def lake(tmp_path):
    """An empty lake without Spark."""
    return Lake(None, str(tmp_path / "lake"))


@pytest.fixture
def suite_files(tmp_path, monkeypatch):
    """Return what writes a suite to a folder of this test's own."""
    monkeypatch.setattr(suites, "SUITES", tmp_path / "expectations")
    (tmp_path / "expectations" / "clean").mkdir(parents=True)

    def write(name, expectations, **meta):
        path = tmp_path / "expectations" / f"{name.replace('.', '/')}.json"
        suite = {"name": name, "expectations": expectations, "meta": {"rows": "days", **meta}}
        path.write_text(json.dumps(suite))

    return write


@pytest.fixture
def settings(lake):
    return planted.settings(lake)
