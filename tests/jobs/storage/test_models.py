import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from pyarrow import fs

from jobs.errors import UserError
from jobs.storage import files, models

JANUARY, FEBRUARY = date(2026, 1, 10), date(2026, 2, 10)


def save(root: Path, version: str, text: str = "{}") -> None:
    models.save(str(root), version, lambda folder: (folder / "meta.json").write_text(text))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two models, `a` champion from 10 January on and `b` from 10 February on."""
    for version, since in (("a", JANUARY), ("b", FEBRUARY)):
        save(tmp_path, version)
        models.promote(str(tmp_path), version, since)
    return tmp_path


def test_a_day_has_the_champion_it_had_then(root):
    days = (date(2026, 1, 9), JANUARY, date(2026, 2, 9), FEBRUARY, date(2026, 12, 31))
    champions = [models.champion(str(root), day) for day in days]
    assert [entry and entry["version"] for entry in champions] == [None, "a", "a", "b", "b"]
    assert champions[1] == {"version": "a", "since": "2026-01-10", "representation": "learned"}


def test_without_any_model_there_is_no_champion(tmp_path):
    assert models.champion(str(tmp_path / "none"), JANUARY) is None


def test_promoting_a_past_day_leaves_the_latest_champion(root):
    save(root, "c")
    models.promote(str(root), "c", date(2026, 1, 20))
    champion = json.loads((root / models.FAMILY / "champion.json").read_text())
    assert (champion["version"], champion["since"]) == ("b", "2026-02-10")
    assert models.champion(str(root), date(2026, 1, 25))["version"] == "c"
    assert models.champion(str(root), date(2026, 1, 15))["version"] == "a"


def test_promoting_twice_on_a_day_keeps_the_last(root):
    models.promote(str(root), "a", FEBRUARY)
    assert models.champion(str(root), FEBRUARY)["version"] == "a"
    assert len(json.loads((root / models.FAMILY / "champion.json").read_text())["history"]) == 2


def test_a_version_keeps_its_representation_when_it_is_champion_again(root):
    save(root, "c")
    models.promote(str(root), "a", date(2026, 1, 10), "pca")
    models.promote(str(root), "a", date(2026, 3, 1))
    models.promote(str(root), "c", date(2026, 3, 2))
    days = (date(2026, 1, 10), date(2026, 3, 1), date(2026, 3, 2))
    assert [models.champion(str(root), day)["representation"] for day in days] == ["pca", "pca", "learned"]


def test_a_missing_version_cannot_be_champion(root):
    before = (root / models.FAMILY / "champion.json").read_bytes()
    with pytest.raises(UserError, match="c is not complete and cannot be champion"):
        models.promote(str(root), "c", FEBRUARY)
    assert (root / models.FAMILY / "champion.json").read_bytes() == before


def test_a_save_that_fails_midway_leaves_nothing(tmp_path):
    def write(folder: Path) -> None:
        (folder / "meta.json").write_text("{}")
        raise UserError("no")

    with pytest.raises(UserError):
        models.save(str(tmp_path), "a", write)
    assert not models.exists(str(tmp_path), "a")
    assert list((tmp_path / models.FAMILY).iterdir()) == []


@pytest.mark.parametrize(
    "use", [lambda root: models.read(root, "a", "meta.json"), lambda root: models.promote(root, "a", FEBRUARY)]
)
def test_a_version_that_a_killed_process_has_moved_away_is_put_back(root, use):
    folder = root / models.FAMILY
    (folder / ".old-x").mkdir()
    (folder / "a").rename(folder / ".old-x" / "a")
    use(str(root))
    assert models.versions(str(root)) == ["a", "b"]
    assert not (folder / ".old-x").exists()


def test_processes_that_promote_at_the_same_time_lose_no_entry(root):
    days = [f"2026-{month:02}-{day:02}" for month in (3, 4, 5) for day in range(1, 21)]
    promote = "import sys; from datetime import date; from jobs.storage import models\n"
    promote += "for day in sys.argv[2:]: models.promote(sys.argv[1], 'a', date.fromisoformat(day))"
    processes = [subprocess.Popen([sys.executable, "-c", promote, str(root), *days[n::3]]) for n in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert [entry["since"] for entry in models.champion_history(str(root))][2:] == days


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"file/autoencoder/a cannot be written: .*Not a directory") as raised:
        save(tmp_path / "file", "a")
    assert "\n" not in str(raised.value)


def test_saving_again_replaces_the_whole_version(tmp_path):
    models.save(str(tmp_path), "a", lambda folder: (folder / "old").write_text("old"))
    save(tmp_path, "a", '{"n": 2}')
    assert models.meta(str(tmp_path), "a") == {"n": 2}
    assert [file.name for file in (tmp_path / models.FAMILY / "a").iterdir()] == ["meta.json"]
    assert sorted(path.name for path in (tmp_path / models.FAMILY).iterdir()) == [".lock", "a"]


def test_the_leftovers_of_a_killed_run_of_the_same_version_are_removed(tmp_path):
    leftover = tmp_path / models.FAMILY / ".a-killed"
    leftover.mkdir(parents=True)
    save(tmp_path, "a")
    assert not leftover.exists()


def test_a_file_uri_is_the_path(root):
    assert models.champion(root.as_uri(), FEBRUARY)["version"] == "b"


def test_an_object_store_gets_the_same_files_and_last_the_one_that_completes_a_model(tmp_path, monkeypatch):
    store = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())  # no rename of folders is used on it
    for module in (models, files):
        monkeypatch.setattr(module, "open_filesystem", lambda path: (store, path.removeprefix("s3://bucket/")))

    def write(folder: Path) -> None:
        (folder / "meta.json").write_text('{"n": 3}')
        (folder / "weights").write_text("w")

    models.save("s3://bucket", "a", write)
    models.promote("s3://bucket", "a", JANUARY)

    monkeypatch.undo()
    assert models.champion(str(tmp_path), JANUARY)["version"] == "a"
    assert models.meta(str(tmp_path), "a") == {"n": 3}
    first, last = (tmp_path / models.FAMILY / "a" / name for name in ("weights", "meta.json"))
    assert first.stat().st_mtime_ns <= last.stat().st_mtime_ns


@pytest.mark.parametrize("content", ["{", "[]", '{"history": 1}', '{"history": [{"version": "a", "since": "soon"}]}'])
def test_a_damaged_champion_file_is_named(root, content):
    path = root / models.FAMILY / "champion.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"champion.json is damaged; restore it"):
        models.champion(str(root), FEBRUARY)


def test_a_missing_and_a_damaged_file_of_a_model_are_named(root):
    with pytest.raises(UserError, match=r"a/encoder.onnx is missing; train again"):
        models.read(str(root), "a", "encoder.onnx")
    (root / models.FAMILY / "a" / "meta.json").write_text("{")
    with pytest.raises(UserError, match=r"a/meta.json is damaged; train again"):
        models.meta(str(root), "a")


def test_golden_rows_come_back_with_missing_and_infinite_values(tmp_path):
    text = '{"features": [[null, "inf", "-inf", 1.5]], "vector": [[0.5]], "reconstruction_error": [2.0]}'
    models.save(str(tmp_path), "a", lambda folder: (folder / "golden.json").write_text(text))
    golden = models.golden(str(tmp_path), "a")
    assert str(golden["features"]) == "[[nan, inf, -inf, 1.5]]"
    assert golden["vector"] == [[0.5]]
