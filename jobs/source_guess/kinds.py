"""The files of a folder by kind: those of one name but for its numbers and days, with the same columns."""

import re
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatch

from jobs.errors import UserError
from jobs.source_guess.samples import Sample, read_sample

_DAY = re.compile(r"(\d{4}-\d{2}-\d{2}|(?<!\d)20\d{6}(?!\d))")
_MOST_READ = 3  # files of a kind that are looked at


@dataclass
class Kind:
    """Files of one kind: their pattern, names, samples of some of them, and the day in their names as a regular expression."""

    pattern: str
    names: list[str]
    samples: list[Sample]
    file_day: str | None

    @property
    def sample(self) -> Sample:
        """The rows of all samples together."""
        first = self.samples[0]
        columns = list(dict.fromkeys(column for sample in self.samples for column in sample.columns))
        rows = [row for sample in self.samples for row in sample.rows]
        return Sample(first.name, columns, rows, first.words, first.notes)

    @property
    def optional(self) -> list[str]:
        """The columns that only some of the samples have."""
        return [c for c in self.sample.columns if any(c not in sample.columns for sample in self.samples)]


def find_kinds(root: str, names: list[str]) -> tuple[list[Kind], list[str]]:
    """Return the kinds of files, and a line for each file that could not be read."""
    by_pattern: dict[str, list[str]] = {}
    for name in names:
        by_pattern.setdefault(_to_pattern(name), []).append(name)
    kinds, problems = [], []
    for pattern, files in by_pattern.items():
        samples = []
        for name in [*files[:1], *files[1:][-(_MOST_READ - 1) :]]:
            try:
                samples.append(read_sample(root, name))
            except UserError as error:
                problems.append(str(error))
        if samples := [sample for sample in samples if sample.columns and sample.rows]:
            kinds.append(
                Kind(pattern if files[1:] or _DAY.search(pattern) else _literal(files), files, samples, _find_file_day(files))
            )
    for kind in kinds:
        others = [name for other_kind in kinds if other_kind is not kind for name in other_kind.names]
        if any(fnmatch(name, kind.pattern) for name in others):
            kind.pattern = kind.pattern.replace("*", "[0-9]*")  # so that `orders-*` takes no `orders-items-*`
    return kinds, problems


def _literal(files: list[str]) -> str:
    """Return the pattern of a single file: its name, with a star for the day in it."""
    return re.sub(r"\*+", "*", _DAY.sub("*", files[0].replace("[", "[[]")))


def _to_pattern(name: str) -> str:
    """Return a name with a star for each day and number in it.

    >>> _to_pattern("in/orders-2024-03-01.csv.gz"), _to_pattern("orders_10.csv")
    ('in/orders-*.csv.gz', 'orders_*.csv')
    """
    return re.sub(r"\*+", "*", re.sub(r"(?<![A-Za-z])\d+(?![A-Za-z])", "*", _DAY.sub("*", name.replace("[", "[[]"))))


def _find_file_day(files: list[str]) -> str | None:
    """Return the regular expression of the day in all of the names, or None where one has none."""
    for digits in (r"(\d{4}-\d{2}-\d{2})", r"(?<!\d)(20\d{6})(?!\d)"):
        if all(_is_day(re.search(digits, name)) for name in files):
            return digits
    return None


def _is_day(match: re.Match | None) -> bool:
    try:
        return match is not None and bool(date.fromisoformat(match[1]))
    except ValueError:
        return False
