"""`shoal source init` and `shoal source check`: a first mapping of a folder, and what a mapping makes of the first rows."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from jobs.bronze._days import TIME_COLUMNS
from jobs.bronze._names import match_name
from jobs.bronze._new_files import MappedFiles
from jobs.cli.text_table import align_columns
from jobs.config import source_mapping
from jobs.config.settings import HOME, Settings
from jobs.config.source_mapping import COLUMNS, TableMapping, choose_delivery
from jobs.progress import log
from jobs.source_check.examination import TableExamination, examine_source
from jobs.source_check.warnings import find_warnings, format_time
from jobs.source_guess import init

_WIDTH = 28  # characters of a value or an expression that are shown
_N_VALUES = 3
_N_NAMES = 12  # columns that are named in a line


def init_source(root: str, out: Path | None) -> None:
    """Write a first mapping of a folder, and print what its files were taken for and what to do next."""
    name = init.to_name(Path(root.rstrip("/")).name)
    path = out or HOME / "conf" / "sources" / f"{name}.toml"
    text, lines = init.guess_mapping(root, path)
    init.write_source(text, path)
    for line in lines:
        log(line)
    log(f"wrote {path}. Look through it, then: shoal source check {path} --input {root}")


def check_source(settings: Settings, mapping_name: str, rows: int) -> None:
    """Print what a mapping makes of the first `rows` rows of some files, and what looks wrong; nothing is kept."""
    source = source_mapping.load_source(mapping_name)
    tables, notes = examine_source(settings, source, datetime.now(UTC).replace(microsecond=0), rows)
    for examined in tables:
        for line in _describe_table(examined):
            log(line)
    missing = [
        mapping for table in source.mappings if table not in {t.table for t in tables} for mapping in source.mappings[table]
    ]
    for mapping in missing:
        log(f"\n{mapping.table}: no file {mapping.files}")
    for note in notes:
        log(note)


def _describe_table(examined: TableExamination) -> list[str]:
    lines = ["", f"{examined.table}"]
    files = [line for part in examined.mapped for line in _describe_files(part.mapper.mapping, part.group.files)]
    lines += [f"  {line}" for line in dict.fromkeys(files)]
    lines += [f"  {_describe_outcome(examined)}", ""]
    lines += [f"  {line}" for line in align_columns(_list_columns(examined), left={0, 1, 3, 4})]
    lines += [f"  {line}" for line in _describe_storage(examined.mapped)]
    warnings = find_warnings(examined)
    return lines + (["  looks wrong:", *(f"    - {warning}" for warning in warnings)] if warnings else ["  nothing looks wrong"])


def _describe_files(mapping: TableMapping, names: list[str]) -> list[str]:
    more = f" and {len(names) - _N_VALUES} more" if len(names) > _N_VALUES else ""
    lines = [f"{mapping.files}: first rows of {', '.join(names[:_N_VALUES])}{more}"]
    if mapping.table == "orders":
        delivery, reason = choose_delivery(mapping)
        lines.append(f"delivery: {delivery}, because {reason}")
    if mapping.time_zone != "UTC":
        lines.append(f"times without an offset are of {mapping.time_zone}")
    return lines


def _describe_outcome(examined: TableExamination) -> str:
    outcome = examined.outcome
    if examined.table == "rates":
        return f"{outcome.n_read:,} rows read"  # cleaning looks them up as they are
    refused = {rule: n for rule, n in outcome.refused.items() if rule != "left_out"}
    counts = [f"{outcome.n_read:,} rows read", f"{outcome.n_kept:,} kept"]
    for word, by_rule in (("refused", refused), ("repeated", outcome.repeated)):
        rules = (
            f" ({', '.join(f'{rule} {n:,}' for rule, n in sorted(by_rule.items(), key=lambda item: -item[1]))})"
            if by_rule
            else ""
        )
        counts.append(f"{sum(by_rule.values()):,} {word}{rules}")
    return ", ".join([*counts, f"{outcome.n_left_out:,} left out by the mapping"])


def _list_columns(examined: TableExamination) -> list[list[str]]:
    """Return a row of text for each of our columns: what it is made of, how many rows have it, and what it becomes."""
    table = [["column", "from", "filled", "values", "becomes"]]
    mappings = [part.mapper.mapping for part in examined.mapped]
    times = TIME_COLUMNS.get(examined.table, ())
    for column in COLUMNS[examined.table]:
        expressions = list(dict.fromkeys(" ".join(m.columns[column].split()) for m in mappings if column in m.columns))
        if not expressions:
            continue
        texts = examined.rows[column].cast(pl.String)
        has_text = texts.is_not_null() & (texts != "")
        values = texts.filter(has_text).unique(maintain_order=True).to_list()[:_N_VALUES]
        is_hashed = any(len(value) == 64 and value.isalnum() for value in values)
        becomes = "a keyed hash" if is_hashed else format_time(values[0]) if values and column in times else ""
        share = f"{100 * has_text.mean():.0f} %" if len(texts) else "0 %"
        table.append([column, _cut(" or ".join(expressions)), share, " | ".join(_cut(value) for value in values), becomes])
    return table


def _cut(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _WIDTH else f"{plain[: _WIDTH - 3]}..."


def _describe_storage(parts: list[MappedFiles]) -> list[str]:
    """Return which columns of the files of a table are hashed, dropped, not stored and kept as text."""
    groups = [part.group for part in parts]
    columns = list(dict.fromkeys(column for group in groups for column in group.columns))
    used = {column for group in groups for column in group.used}
    drop = {column for part in parts for column in part.mapper.mapping.drop}
    dropped = [c for group in groups for c in group.reading.drop if match_name(c, drop)]
    hashed = {f"{name} ({kind})": None for group in groups for name, kind in group.reading.personal.items()}
    personal = {name for group in groups for name in group.reading.personal}
    closed = {c for c in columns if all(c in group.reading.drop for group in groups if c in group.columns)} - {*dropped, *used}
    kept = [c for c in columns if c not in {*used, *dropped, *personal, *closed}]
    lists = (
        ("stored as a keyed hash", list(hashed)), ("never stored, by `drop`", list(dict.fromkeys(dropped))),
        ("not stored, as the mapping does not name them", [c for c in columns if c in closed]), ("kept as text", kept),
    )  # fmt: skip
    return [f"{words}: {_name_some(names)}" for words, names in lists if names]


def _name_some(names: list[str]) -> str:
    more = f" and {len(names) - _N_NAMES} more" if len(names) > _N_NAMES else ""
    return ", ".join(names[:_N_NAMES]) + more
