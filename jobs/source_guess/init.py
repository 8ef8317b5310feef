"""`shoal source init`: the mapping of a folder, guessed, or a preset where the files are a vendor's."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from jobs.config.settings import HOME
from jobs.config.source_files import list_names
from jobs.config.source_mapping import load_source
from jobs.errors import UserError
from jobs.source_guess.kinds import Kind, find_kinds
from jobs.source_guess.presets import Layout, find_layout
from jobs.source_guess.roles import Guess, guess_table
from jobs.source_guess.writing import write_blocks, write_mapping

_NO_DATA = re.compile(r"(^|/)(readme|license|changelog)|\.(md|txt|pdf|html?|xml|xlsx?|png|jpe?g|toml|ya?ml|py|sql|doc)$", re.I)


def guess_mapping(root: str, out: Path) -> tuple[str, list[str]]:
    """Return the mapping of the files of a folder as TOML, and lines that say what was taken for what.

    Raises UserError where no file can be read, or nothing looks like events or orders.
    """
    names = [name for name in list_names(root) if not _NO_DATA.search(name)]
    kinds, lines = find_kinds(root, names)
    if not kinds:
        raise UserError(
            f"source: no file in {root} has rows that could be read{'; ' + lines[0].removeprefix('source: ') if lines else ''}"
        )
    layouts = {id(kind): find_layout(kind.sample) for kind in kinds}
    guesses = [(kind, guess_table(kind.sample)) for kind in kinds]
    if layout := next(filter(None, layouts.values()), None):
        text, more = _copy_preset(layout, out.stem, [pair for pair in guesses if layouts[id(pair[0])] is None])
        return text, lines + more
    lines += [_describe(kind, guess) for kind, guess in guesses]
    header = [
        f"A first mapping of {Path(root).name}, guessed from the first rows of its files. Look through every line:",
        "`sure` is by name and values, `likely` by one of them, `guess` is to be checked. docs/own-files.md explains the words.",
    ]
    return write_mapping(to_name(out.stem), guesses, header), lines


def write_source(text: str, out: Path) -> None:
    """Write a mapping, which must load. Raises UserError for a file that is there, and where no events or orders are mapped."""
    if out.exists():
        raise UserError(f"source: {out} exists; remove it, or name another file with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    if not {"events", "orders"} & set(tomllib.loads(text)):
        raise UserError(f"source: no file looks like events or orders; {out} has what was seen, fill in its comments")
    load_source(str(out))


def _copy_preset(layout: Layout, name: str, others: list[tuple[Kind, Guess]]) -> tuple[str, list[str]]:
    """Return a copy of a preset under another name, with the tables of other files that the preset has not."""
    text = (HOME / "conf" / "sources" / f"{layout.preset}.toml").read_text()
    has = set(tomllib.loads(text))
    preset = load_source(layout.preset)
    patterns = [m.files for m in preset.all_mappings()] + [k.files for m in preset.all_mappings() for k in m.lookups]
    added = [
        (kind, guess)
        for kind, guess in others
        if guess.table not in has
        and not guess.missing
        and not any(fnmatch(name, pattern) for pattern in patterns for name in kind.names)
    ]
    lines = [f"this is {layout.vendor}: use SOURCE={layout.preset}, or change this copy of conf/sources/{layout.preset}.toml"]
    lines += [_describe(kind, guess) for kind, guess in added]
    copy = text.replace(f'name = "{layout.preset}"', f'name = "{to_name(name)}"', 1)
    return copy + (write_blocks(added) if added else ""), lines


def to_name(stem: str) -> str:
    """Return a folder's or file's name as the name of a source: letters, digits and underscores."""
    return re.sub(r"\W+", "_", stem, flags=re.ASCII).strip("_") or "mine"


def _describe(kind: Kind, guess: Guess) -> str:
    certainties = [role.certainty for role in guess.roles.values()]
    counts = ", ".join(f"{certainties.count(word)} {word}" for word in ("sure", "likely", "guess") if word in certainties)
    if len(guess.roles) < 2 and guess.missing:
        return f"{kind.pattern}: left out; its columns look like nothing that Shoal takes"
    lacks = f"; missing: {', '.join(guess.missing)}, so it stands as a comment" if guess.missing else ""
    n = len(kind.names)
    return f"{kind.pattern}: {n:,} file{'s' * (n != 1)} -> {guess.table} ({counts} of {len(kind.sample.columns)} columns){lacks}"
