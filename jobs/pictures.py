"""Where the lines and shapes of the report's pictures lie, in units of their viewBox; what they look like, the page says."""

from collections.abc import Iterable, Sequence
from datetime import date

FLOW_WIDTH, FLOW_BAR, FLOW_GAP = 300, 10, 26  # between the bars; a bar; between two bars, for two lines of text
FLOW_HEIGHT = 260  # of all bars of a side together
TIME_WIDTH, TIME_HEIGHT = 760, 200
LABEL = 15  # between the feet of two labels


def flow(moves: Sequence[tuple[int | None, int | None, int]]) -> dict:
    """(from, to, customers) -> bars of both sides by segment, and a ribbon for each move, as thick as it has customers.

    Segments stand by number, None last. A ribbon's points are those of two cubic curves, down the one and up the other.

    >>> picture = flow([(1, 2, 30), (None, 2, 10)])
    >>> [(bar["segment_id"], bar["y"], bar["height"]) for bar in picture["right"]]
    [(2, 0, 260.0)]
    >>> [(bar["segment_id"], bar["customers"]) for bar in picture["left"]]
    [(1, 30), (None, 10)]
    >>> picture["ribbons"][0]["path"]
    'M10 0C160 0 160 0 310 0V195C160 195 160 195 10 195Z'
    """
    total = sum(n for *_, n in moves)
    scale = FLOW_HEIGHT / total
    sides = [_bars(moves, side, scale) for side in (0, 1)]
    used = [dict.fromkeys(bars, 0.0) for bars in sides]
    ribbons = []
    for move in sorted(moves, key=lambda move: (null_last(move[0]), null_last(move[1]))):
        thick = move[2] * scale
        left, right = (sides[side][move[side]]["y"] + used[side][move[side]] for side in (0, 1))
        for side in (0, 1):
            used[side][move[side]] += thick
        ribbons.append({"from": move[0], "to": move[1], "customers": move[2], "path": _ribbon(left, right, thick)})
    lowest = max(bar["y"] + bar["height"] for bars in sides for bar in bars.values())
    left, right = ([*bars.values()] for bars in sides)
    size = {"width": FLOW_WIDTH + 2 * FLOW_BAR, "height": round(lowest), "bar": FLOW_BAR}
    return {"left": left, "right": right, "ribbons": ribbons} | size


def over_time(sizes: Iterable[tuple[date, int, int]]) -> dict | None:
    """(day, segment, customers) -> a line per segment over the days; None where there is but one day.

    A segment that is missing on a known day has a gap there. Lines begin at nought; labels don't stand on each other.

    >>> from datetime import date
    >>> over_time([(date(2026, 3, 1), 1, 50), (date(2026, 3, 3), 1, 100)])["lines"][0]["parts"]
    ['0,100 760,0']
    """
    by_segment: dict[int, dict[date, int]] = {}
    for day, segment_id, customers in sizes:
        by_segment.setdefault(segment_id, {})[day] = customers
    days = sorted({day for held in by_segment.values() for day in held})
    if len(days) < 2:
        return None
    most = max(n for held in by_segment.values() for n in held.values())
    x = {day: round(TIME_WIDTH * (day - days[0]) / (days[-1] - days[0]), 1) for day in days}
    lines = []
    for segment_id, held in sorted(by_segment.items()):
        parts: list[list[str]] = [[]]
        for day in days:
            if day in held:
                parts[-1].append(f"{x[day]:g},{TIME_HEIGHT * (1 - held[day] / most):g}")
            else:
                parts.append([])
        last = max(held)
        end = {"x": x[last], "y": TIME_HEIGHT * (1 - held[last] / most), "customers": held[last]}
        lines.append({"segment_id": segment_id, "parts": [" ".join(part) for part in parts if part], **end})
    at = None
    for line in sorted(lines, key=lambda line: line["y"]):
        at = line["y"] if at is None else max(line["y"], at + LABEL)
        line["label_y"] = round(at, 1)
    return {"lines": lines, "days": (days[0], days[-1]), "most": most, "width": TIME_WIDTH, "height": TIME_HEIGHT}


def null_last(segment_id: int | None) -> float:
    """By which segments are put in order."""
    return float("inf") if segment_id is None else segment_id


def _bars(moves: Sequence[tuple[int | None, int | None, int]], side: int, scale: float) -> dict[int | None, dict]:
    found, y = {}, 0
    for segment_id in sorted({move[side] for move in moves}, key=null_last):
        customers = sum(move[2] for move in moves if move[side] == segment_id)
        found[segment_id] = {"segment_id": segment_id, "customers": customers, "y": y, "height": customers * scale}
        y += customers * scale + FLOW_GAP
    return found


def _ribbon(left: float, right: float, thick: float) -> str:
    start, end, middle = FLOW_BAR, FLOW_BAR + FLOW_WIDTH, FLOW_BAR + FLOW_WIDTH / 2
    upper = f"M{start:g} {left:.4g}C{middle:g} {left:.4g} {middle:g} {right:.4g} {end:g} {right:.4g}"
    left, right = left + thick, right + thick
    return f"{upper}V{right:.4g}C{middle:g} {right:.4g} {middle:g} {left:.4g} {start:g} {left:.4g}Z"
