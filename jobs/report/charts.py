"""The geometry of the charts, in units of their viewBox. The template says how they look."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple

from jobs.report._segments import null_last

Move = tuple[int | None, int | None, int]  # from segment, to segment, customers


class Margins(NamedTuple):
    """Space around a chart for its labels."""

    left: int
    top: int
    right: int
    bottom: int


FLOW_WIDTH, FLOW_BAR, FLOW_GAP = 300, 10, 26  # between the bars; a bar; between two bars, for two lines of text
FLOW_HEIGHT = 260  # of all bars of a side together
FLOW_MARGINS = Margins(left=310, top=8, right=310, bottom=16)
FLOW_LABEL_BASELINE = 11  # below the upper edge of the bar
SIZES_WIDTH, SIZES_HEIGHT = 760, 200
SIZES_MARGINS = Margins(left=70, top=12, right=230, bottom=50)
LABEL_DISTANCE = 15  # between the baselines of two labels
SWEEP_WIDTH, SWEEP_HEIGHT = 760, 180
SWEEP_MARGINS = Margins(left=36, top=12, right=150, bottom=28)
LABEL_GAP = 8  # from the chart to a label beside it
TEXT_BASELINE = 4  # from the middle of a line of text down to its baseline
AXIS_BASELINE = 20  # from the chart down to the baseline of the labels under it


def flow_chart(moves: Sequence[Move]) -> dict:
    """Return the bars of both sides by segment, and for each move a ribbon as thick as the number of its customers.

    Segments are in order of their number, None last. A ribbon is the area between two cubic curves.

    >>> chart = flow_chart([(1, 2, 30), (None, 2, 10)])
    >>> [(bar["segment_id"], bar["y"], bar["height"]) for bar in chart["right"]]
    [(2, 0, 260.0)]
    >>> [(bar["segment_id"], bar["customers"]) for bar in chart["left"]]
    [(1, 30), (None, 10)]
    >>> chart["ribbons"][0]["path"]
    'M10 0C160 0 160 0 310 0V195C160 195 160 195 10 195Z'
    """
    scale = FLOW_HEIGHT / sum(customers for *_, customers in moves)
    sides = [_flow_bars(moves, side, scale) for side in (0, 1)]
    used = [dict.fromkeys(bars, 0.0) for bars in sides]  # height of each bar that has its ribbon already
    ribbons = []
    for move in sorted(moves, key=lambda move: (null_last(move[0]), null_last(move[1]))):
        thickness = move[2] * scale
        left, right = (sides[side][move[side]]["y"] + used[side][move[side]] for side in (0, 1))
        for side in (0, 1):
            used[side][move[side]] += thickness
        ribbons.append({"from": move[0], "to": move[1], "customers": move[2], "path": _ribbon_path(left, right, thickness)})
    width = FLOW_WIDTH + 2 * FLOW_BAR
    height = round(max(bar["y"] + bar["height"] for bars in sides for bar in bars.values()))
    return {
        "left": [bar | {"x": 0, "label_x": -LABEL_GAP} for bar in sides[0].values()],
        "right": [bar | {"x": width - FLOW_BAR, "label_x": width + LABEL_GAP} for bar in sides[1].values()],
        "ribbons": ribbons,
        "bar_width": FLOW_BAR,
        "view_box": _view_box(width, height, FLOW_MARGINS),
    }


def size_chart(sizes: Iterable[tuple[date, int, int]]) -> dict | None:
    """Return a line per segment over the days, from (day, segment, customers); None where there is only one day.

    The line of a segment that is missing on a day has a gap there. The axis begins at 0, and labels do not overlap.

    >>> from datetime import date
    >>> size_chart([(date(2026, 3, 1), 1, 50), (date(2026, 3, 3), 1, 100)])["lines"][0]["parts"]
    ['0,100 760,0']
    """
    by_segment: dict[int, dict[date, int]] = {}
    for day, segment_id, customers in sizes:
        by_segment.setdefault(segment_id, {})[day] = customers
    days = sorted({day for customers_by_day in by_segment.values() for day in customers_by_day})
    if len(days) < 2:
        return None
    most = max(customers for customers_by_day in by_segment.values() for customers in customers_by_day.values())
    x = {day: round(SIZES_WIDTH * (day - days[0]) / (days[-1] - days[0]), 1) for day in days}
    lines = []
    for segment_id, customers_by_day in sorted(by_segment.items()):
        y = {day: SIZES_HEIGHT * (1 - customers / most) for day, customers in customers_by_day.items()}
        last = max(y)
        end = {"x": x[last], "y": y[last], "customers": customers_by_day[last]}
        lines.append({"segment_id": segment_id, "parts": _line_parts(days, x, y), "label_x": SIZES_WIDTH + 10, **end})
    _set_label_baselines(lines)
    return {
        "lines": lines,
        "days": (days[0], days[-1]),
        "axis": _axis(SIZES_WIDTH, SIZES_HEIGHT, most),
        "view_box": _view_box(SIZES_WIDTH, SIZES_HEIGHT, SIZES_MARGINS),
    }


def sweep_chart(candidates: Sequence[dict], figures: dict[str, str]) -> dict:
    """Return a line per figure over the numbers of segments k tried, 0 at the foot and 1 at the top.

    `candidates` are in order of k; `figures` are their columns with the labels of the lines. A missing value has no point.
    """
    step = SWEEP_WIDTH / len(candidates)
    x = [round(step * (position + 0.5)) for position in range(len(candidates))]
    lines = []
    for figure, label in figures.items():
        points = [
            {"x": at, "y": round(SWEEP_HEIGHT * (1 - max(c[figure], 0))), "value": c[figure], "candidate": c}
            for at, c in zip(x, candidates, strict=True)
            if c[figure] is not None
        ]
        if points:
            end = {"label_x": points[-1]["x"] + 12, "label_y": points[-1]["y"] + TEXT_BASELINE}
            lines.append({"figure": figure, "label": label, "points": points, **end})
    return {
        "lines": lines,
        "ticks": [{"x": at, "k": c["k"], "chosen": c["chosen"]} for at, c in zip(x, candidates, strict=True)],
        "axis": _axis(SWEEP_WIDTH, SWEEP_HEIGHT, 1),
        "view_box": _view_box(SWEEP_WIDTH, SWEEP_HEIGHT, SWEEP_MARGINS),
    }


def _view_box(width: int, height: int, margins: Margins) -> str:
    left, top, right, bottom = margins
    return f"{-left} {-top} {width + left + right} {height + top + bottom}"


def _axis(width: int, height: int, most: float) -> dict:
    """Return the rules at 0, half and all of `most`, and where the labels of both axes stand."""
    shares = (0, 0.5, 1)
    rules = [{"y": height * (1 - share), "value": most * share} for share in shares]
    return {
        "width": width,
        "rules": [rule | {"label_y": rule["y"] + TEXT_BASELINE} for rule in rules],
        "label_x": -LABEL_GAP,
        "label_y": height + AXIS_BASELINE,
    }


def _line_parts(days: list[date], x: dict[date, float], y: dict[date, float]) -> list[str]:
    """Return the points of each part of a line that has gaps on the days without y."""
    parts: list[list[str]] = [[]]
    for day in days:
        if day in y:
            parts[-1].append(f"{x[day]:g},{y[day]:g}")
        else:
            parts.append([])
    return [" ".join(part) for part in parts if part]


def _set_label_baselines(lines: list[dict]) -> None:
    """Place the label of each line at its end, or lower where it would overlap the label above."""
    label = None
    for line in sorted(lines, key=lambda line: line["y"]):
        label = line["y"] if label is None else max(line["y"], label + LABEL_DISTANCE)
        line["label_y"] = round(label, 1) + TEXT_BASELINE


def _flow_bars(moves: Sequence[Move], side: int, scale: float) -> dict[int | None, dict]:
    bars, y = {}, 0
    for segment_id in sorted({move[side] for move in moves}, key=null_last):
        customers = sum(move[2] for move in moves if move[side] == segment_id)
        height, label_y = customers * scale, y + FLOW_LABEL_BASELINE
        bars[segment_id] = {"segment_id": segment_id, "customers": customers, "y": y, "height": height, "label_y": label_y}
        y += height + FLOW_GAP
    return bars


def _ribbon_path(left: float, right: float, thickness: float) -> str:
    start, end, middle = FLOW_BAR, FLOW_BAR + FLOW_WIDTH, FLOW_BAR + FLOW_WIDTH / 2
    upper = f"M{start:g} {left:.4g}C{middle:g} {left:.4g} {middle:g} {right:.4g} {end:g} {right:.4g}"
    left, right = left + thickness, right + thickness
    return f"{upper}V{right:.4g}C{middle:g} {right:.4g} {middle:g} {left:.4g} {start:g} {left:.4g}Z"
