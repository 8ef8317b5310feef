"""What a run says while it works."""

from datetime import date

from jobs import watchdog


def log(line: str) -> None:
    """Print one line of progress on standard output at once."""
    print(line, flush=True)
    watchdog.note_progress()


def format_days(days: list[date]) -> str:
    """Return a sorted list of days as its first and last day.

    >>> format_days([date(2024, 1, 1)]), format_days([date(2024, 1, 1), date(2024, 1, 3)])
    ('2024-01-01', '2024-01-01 to 2024-01-03')
    """
    return str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"
