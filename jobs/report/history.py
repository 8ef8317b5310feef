"""The sections on change: sizes over time, and who moved between segments."""

from datetime import date

from jobs.report import charts
from jobs.report._segments import colour_class, null_last
from jobs.report._tables import read_rows
from jobs.traits import DORMANT

DAYS_SHOWN = 365
MOVES_SHOWN = 20
NEW, GONE = "new customers", "no longer known"


def draw_sizes(root: str, day: date, names: dict[int, str]) -> dict | None:
    """Return the chart of active customers by segment on the last DAYS_SHOWN published days; None for one day."""
    profiles = read_rows(root, "marts.segment_profiles", columns=["day", "segment_id", "n_customers"])
    active = [p for p in profiles if p["segment_id"] != DORMANT]
    days = sorted({p["day"] for p in active if p["day"] <= day})[-DAYS_SHOWN:]
    chart = charts.size_chart((p["day"], p["segment_id"], p["n_customers"]) for p in active if p["day"] in days)
    for line in chart["lines"] if chart else ():
        line |= {"name": names.get(line["segment_id"], ""), "colour": colour_class(line["segment_id"])}
    return chart


def summarize_moves(moves: list[dict], names: dict[int, str]) -> dict:
    """Return the largest moves, their chart, and what is not listed, from the rows of marts.segment_moves of a day.

    A row without both segments sums the moves of too few customers to be published.
    """
    moves.sort(key=lambda m: (-m["customers"], null_last(m["from_segment_id"]), null_last(m["to_segment_id"])))
    listed = [m for m in moves if (m["from_segment_id"], m["to_segment_id"]) != (None, None)]
    customers = sum(m["customers"] for m in moves)
    rest = listed[MOVES_SHOWN:]
    return {
        "flow": _draw_flow(listed, names) if listed else None,
        "rows": [
            m
            | {
                "from_name": names.get(m["from_segment_id"], NEW),
                "to_name": names.get(m["to_segment_id"], GONE),
                "from_colour": colour_class(m["from_segment_id"]),
                "to_colour": colour_class(m["to_segment_id"]),
            }
            for m in listed[:MOVES_SHOWN]
        ],
        "previous_day": moves[0]["previous_day"] if moves else None,
        "customers": customers,
        "n_rest": len(rest),
        "rest_customers": sum(m["customers"] for m in rest),
        "unlisted_customers": customers - sum(m["customers"] for m in listed),
    }


def _draw_flow(moves: list[dict], names: dict[int, str]) -> dict:
    flow = charts.flow_chart([(m["from_segment_id"], m["to_segment_id"], m["customers"]) for m in moves])
    for side, without_segment in (("left", NEW), ("right", GONE)):
        for bar in flow[side]:
            bar |= {"name": names.get(bar["segment_id"], without_segment), "colour": colour_class(bar["segment_id"])}
    for ribbon in flow["ribbons"]:
        ribbon["colour"] = colour_class(ribbon["from"])
    return flow
