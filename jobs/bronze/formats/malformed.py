"""Rows of a file that are none: collected while the others are read, so that each is kept and counted."""

from typing import NamedTuple

import numpy as np


class MalformedRow(NamedTuple):
    """The number of the row and its line, both from 1, and its text."""

    number: int
    line: int
    text: str


class MalformedRows:
    """The malformed rows of one file, in the order in which they were met."""

    def __init__(self) -> None:
        self._rows: list[MalformedRow] = []
        self._numbers: list[int] = []  # of rows that were not numbered yet
        self.n_rows = 0

    def add(self, number: int, line: int, text: str) -> None:
        """Collect a row."""
        self._rows.append(MalformedRow(number, line, text))
        self._numbers.append(number)
        self.n_rows += 1

    def take(self) -> list[MalformedRow]:
        """Return the rows since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def number_rows(self, last: int, n: int) -> np.ndarray:
        """Return the numbers of the next `n` rows that are not malformed, after the row numbered `last`."""
        numbers = np.arange(last + 1, last + 1 + n + len(self._numbers))
        numbers = numbers[~np.isin(numbers, self._numbers)][:n]
        if n:
            self._numbers = [number for number in self._numbers if number > numbers[-1]]
        return numbers
