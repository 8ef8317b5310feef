"""Which files of the input folder are taken, and the one line for each that cannot be."""

import os

import pytest

from jobs.config.source_files import check_any_file, find_files, list_names
from jobs.config.source_mapping import TableMapping
from jobs.errors import UserError

CSV = TableMapping("orders", "*.csv", {})


def found_names(folder, pattern="*.csv"):
    return [name for name, _ in find_files(str(folder), TableMapping("orders", pattern, {}))]


def test_hidden_files_and_folders_are_not_taken(tmp_path):
    for name in ("a.csv", ".b.csv", "day/c.csv", ".day/d.csv", "day/.e.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert found_names(tmp_path, "*") == ["a.csv", "day/c.csv"]


def test_a_link_leads_to_a_file_of_the_input_folder_only(tmp_path):
    folder = tmp_path / "input"
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "a.csv").touch()
    (folder / "b.csv").symlink_to(folder / "real" / "a.csv")
    (folder / "days").symlink_to(folder / "real")
    (folder / "round").symlink_to(folder)
    assert found_names(folder) == ["b.csv", "real/a.csv"]
    (tmp_path / "secret.csv").touch()
    (folder / "c.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(UserError, match=r"^land: file c.csv: it is a link out of the input folder"):
        found_names(folder)
    (folder / "c.csv").unlink()
    (folder / "c.csv").symlink_to(folder / "gone.csv")
    with pytest.raises(UserError, match=r"^land: file c.csv: it is a link to a file that does not exist"):
        found_names(folder)
    (folder / "c.csv").unlink()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "d.csv").touch()
    (folder / "more").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=r"^land: folder more: it is a link out of the input folder"):
        found_names(folder)


@pytest.mark.parametrize(("name", "shown"), [(b"caf\xe9.csv", r"caf\xe9.csv"), (b"a\nb.csv", r"a\x0ab.csv")])
def test_a_name_that_cannot_be_stored_is_refused_where_the_mapping_takes_it(tmp_path, name, shown):
    (tmp_path / os.fsdecode(name)).touch()
    assert found_names(tmp_path, "*.txt") == []
    with pytest.raises(UserError) as raised:
        found_names(tmp_path)
    assert str(raised.value).startswith(f"land: file {shown}: its name")
    assert "\n" not in str(raised.value)


def test_a_folder_without_any_file_of_a_source_is_an_error_and_one_without_a_kind_is_none(tmp_path):
    with pytest.raises(UserError, match=r"no file \*\.csv \(orders\), e\.csv \(events\) in"):
        check_any_file(str(tmp_path), [CSV, TableMapping("events", "e.csv", {})])
    (tmp_path / "e.csv").touch()
    check_any_file(str(tmp_path), [TableMapping("orders", "o.csv", {}), TableMapping("events", "e.csv", {})])
    with pytest.raises(UserError, match="does not exist; name it with INPUT="):
        list_names(str(tmp_path / "none"))
