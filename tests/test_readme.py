"""README, the pages under docs and the comments of conf name only what exists and agree with the code they describe."""

import argparse
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from math import inf
from pathlib import Path

import pytest

from jobs import flow
from jobs.cli.parser import build_parser
from jobs.config import source_mapping
from jobs.config.file_format import WORDS
from jobs.config.settings import HOME, Settings

README = HOME / "README.md"
PAGES = [README, *sorted((HOME / "docs").rglob("*.md")), HOME / "CHANGELOG.md"]
TEXT = "\n".join(page.read_text() for page in PAGES)
MAKEFILE = (HOME / "Makefile").read_text()
FOLDERS = "benchmarks|conf|dags|docker|docs|expectations|jobs|requirements|setup|tests"
EXAMPLES = ("conf/sources/mine.toml", "conf/sources/NAME.toml")  # files that the reader writes
README_LINES = 120


def find_all(pattern: str, text: str = TEXT) -> list[str]:
    matches = sorted(set(re.findall(pattern, text, re.M)))
    assert matches, f"no page has anything like {pattern}"
    return matches


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Yield every command of the parser, by its words, with its options."""
    yield words, {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                yield from commands(subparser, (*words, name))


OPTIONS = dict(commands(build_parser()))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(page: Path, first_header: str) -> list[list[str]]:
    """Return the cells of a page's Markdown table, without backquotes; `first_header` heads its first column."""
    lines = page.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first_header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def settings_with_ranges(kind: type, table: str = "") -> Iterator[tuple[str, str, tuple[float, float] | None]]:
    """Yield (table, key, limits) of every setting; the limits are None where any value is allowed."""
    for setting in fields(kind):
        if is_dataclass(setting.type):
            yield from settings_with_ranges(setting.type, setting.name)
        else:
            yield table, setting.name, setting.metadata.get("range")


def comments_by_key(path: Path) -> dict[tuple[str, str], str]:
    """Return the comment lines directly above each key, by table and key."""
    comments, table, above = {}, "", []
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            above.append(line.removeprefix("#").strip())
        elif heading := re.match(r"\[([\w.]+)\]", line):
            table, above = heading[1], []
        elif key := re.match(r"(\w+) =", line):
            comments[table, key[1]] = " ".join(above)
            above = []
        else:
            above = []
    return comments


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("target", find_all(r"(?:^|`)(?:PORT=\d+ )?make ([a-z-]+)\b"))
def test_a_make_target_exists(target):
    assert re.search(rf"^{target}:", MAKEFILE, re.M)


@pytest.mark.parametrize("variable", find_all(r"(?:^|`)make [a-z]+ ([A-Z]+)="))
def test_a_make_variable_exists(variable):
    assert re.search(rf"\$\({variable}\)|\b{variable} \?=", MAKEFILE)


@pytest.mark.parametrize("line", find_all(r"(?:bin/|`)shoal ([^`#>\n]+)"))
def test_a_command_and_its_options_exist(line):
    words = line.split()
    if words[0] == "COMMAND":  # any command: the option that all of those share which a person uses
        words[0] = "segments"
    command = next(tuple(words[:n]) for n in (2, 1, 0) if tuple(words[:n]) in OPTIONS)
    assert command or words[0].startswith("--"), "unknown command"
    assert {word for word in words if word.startswith("--")} <= OPTIONS[command]


@pytest.mark.parametrize("path", find_all(rf"[`( ]((?:{FOLDERS})/[\w./-]*[\w/]|docker-compose\.yml)[`): ]"))
def test_a_file_exists(path):
    assert (HOME / path).exists() or path in EXAMPLES


def test_each_preset_names_its_page_and_the_page_the_preset_and_its_vendor():
    presets = [path for path in (HOME / "conf/sources").glob("*.toml") if "docs/sources/" in path.read_text()]
    assert len(presets) == 11
    for preset in presets:
        page = HOME / re.search(r"docs/sources/\w+\.md", preset.read_text())[0]
        assert f"`SOURCE={preset.stem}`" in page.read_text()
        assert "](https://" in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_links_resolve(page):
    for target in re.findall(r"\]\(((?!https://)[^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "glossary.md"], ids=lambda page: str(page.relative_to(HOME))
)
def test_a_page_uses_the_words_of_the_glossary(page):
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.S)
    avoided = dict(table_rows(HOME / "docs" / "glossary.md", "not"))
    assert len(avoided) > 1
    assert not {word: term for word, term in avoided.items() if re.search(rf"\b{word}s?\b", prose, re.I)}


@pytest.mark.parametrize("page", [README, HOME / "docs" / "own-files.md"], ids=lambda page: page.name)
def test_the_mappings_that_a_page_shows_can_be_loaded(page, tmp_path):
    mappings = re.findall(r"```toml\n(.*?)```", page.read_text(), re.S)
    assert mappings
    for mapping in mappings:
        head = "" if mapping.startswith("name") else 'name = "mine"\ncurrency = "EUR"\n'
        (tmp_path / "mine.toml").write_text(head + mapping)
        assert source_mapping.load_source(str(tmp_path / "mine.toml")).columns("orders")


def test_the_page_on_mappings_shows_every_word():
    shown = " ".join(re.findall(r"```toml\n(.*?)```", (HOME / "docs" / "own-files.md").read_text(), re.S))
    words = {*source_mapping.TableMapping.__dataclass_fields__, *source_mapping.Lookup.__dataclass_fields__}
    of_formats = {"format", *(word for words_of_format in WORDS.values() for word in words_of_format)}
    assert {word for word in words - of_formats - {"table", "name", "max_gib"} if not re.search(rf"\b{word}\b", shown)} == set()


def test_the_page_on_mappings_lists_every_column():
    rows = table_rows(HOME / "docs" / "own-files.md", "table")
    assert {table: tuple(columns.replace("*", "").split(", ")) for table, columns in rows} == source_mapping.COLUMNS
    required = {table: tuple(re.findall(r"\*\*(\w+)\*\*", columns)) for table, columns in rows}
    assert required == source_mapping.REQUIRED


@pytest.mark.parametrize("page", sorted((HOME / "docs" / "adr").glob("*.md")), ids=lambda page: page.name)
def test_a_decision_has_four_parts(page):
    assert re.findall(r"^## (.+)$", page.read_text(), re.M) == ["Context", "Choice", "Measured", "Consequences"]


def test_the_decision_on_places_lists_the_layers_tables_and_steps_of_the_flow():
    page = HOME / "docs" / "adr" / "one-table-five-places.md"
    layers = table_rows(page, "layer")
    assert {layer: tuple(tables.split(", ")) for layer, tables, _ in layers} == flow.TABLES
    assert tuple(layer for layer, _, checked in layers if checked != "no") == flow.CHECKED_LAYERS
    assert [step for step, _ in table_rows(page, "step")] == [step.name for step in flow.STEPS]


@pytest.mark.parametrize(("table", "key", "limits"), list(settings_with_ranges(Settings)))
def test_a_setting_has_a_sentence_with_its_range(table, key, limits):
    comment = comments_by_key(HOME / "conf" / "local.toml")[table, key]
    assert re.fullmatch(r"[A-Z].*[^.]\.", comment), comment
    if limits:
        least, most = limits
        assert f"at least {least:g}" in comment if most == inf else f"({least:g} to {most:g})" in comment


FILES = [path for path in sorted((HOME / "conf").glob("*.toml")) if path.name != "activation.toml"]  # which has examples alone


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_key_has_a_comment_of_its_own(path):
    comments = comments_by_key(path)
    assert comments
    assert all(comments.values()), [key for key, comment in comments.items() if not comment]
    assert tomllib.loads(path.read_text())
