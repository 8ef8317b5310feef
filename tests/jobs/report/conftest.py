from dataclasses import replace

import pytest

from jobs.config.settings import Settings
from tests.jobs.report.lake import make_profiles, make_settings, write_lake, write_rows


@pytest.fixture(scope="session")
def published_lake(tmp_path_factory) -> Settings:
    settings = make_settings(tmp_path_factory.mktemp("report"))
    write_lake(settings)
    return settings


@pytest.fixture
def settings(published_lake, tmp_path) -> Settings:
    """The lake with all tables, only for reading, and a reports folder for this test."""
    return replace(published_lake, reports=str(tmp_path / "reports"))


@pytest.fixture
def bare_settings(tmp_path) -> Settings:
    """A lake with profiles only."""
    settings = make_settings(tmp_path)
    write_rows(settings.lake, "marts.segment_profiles", make_profiles())
    return settings
