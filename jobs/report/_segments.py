"""The order and the colours of segments, the same in all tables and charts."""

from jobs.traits import DORMANT

COLOURS = 8  # that most people can tell apart; the ninth segment takes the first again, its number is on the map


def dormant_last(row: dict) -> tuple[bool, int]:
    """Return the sort key of a row with a segment_id: by number, the dormant segment last."""
    return row["segment_id"] == DORMANT, row["segment_id"]


def null_last(segment_id: int | None) -> float:
    """Return the sort key of a segment: by number, no segment last."""
    return float("inf") if segment_id is None else segment_id


def colour_class(segment_id: int | None) -> str:
    """Return the style class of a segment. It follows the number, so that a segment keeps its colour from day to day.

    >>> colour_class(1), colour_class(9), colour_class(DORMANT), colour_class(None)
    ('c1', 'c1', 'c0', 'c0')
    """
    return "c0" if not segment_id else f"c{(segment_id - 1) % COLOURS + 1}"
