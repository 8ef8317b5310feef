"""The section on what to do: for each segment what it is worth, what it risks, what to try, and whether that can be proved."""

from collections.abc import Mapping, Sequence

from jobs.traits import DORMANT

MUCH_MORE = 1.25  # times the mean of the shop
PRODUCTS_SHOWN = 3
_OUTCOMES = ("churn", "next order", "high value", "returns")  # those of conf/outcomes.toml that rules know


def describe_actions(
    segments: Sequence[dict],
    worth: dict | None,
    outcomes: Sequence[dict],
    offers: dict | None,
    moves: Sequence[dict],
    holdouts: Mapping[int, Sequence[str]],
) -> list[dict]:
    """Return each segment with its figures and what to try, the segments with the most expected money first.

    The arguments are what the other sections show; `moves` are rows of marts.segment_moves, and `holdouts` the campaigns with
    customers held out by segment. A figure that is not known is None.
    """
    values = {row["segment_id"]: row for row in worth["rows"]} if worth else {}
    probabilities = {o["name"]: {row["segment_id"]: row for row in o["rows"]} for o in outcomes if o["name"] in _OUTCOMES}
    products = {row["segment_id"]: row["products"] for row in offers["segments"]} if offers else {}
    rows = []
    for segment in segments:
        segment_id = segment["segment_id"]
        value = values.get(segment_id)
        chances = {name: of_outcome[segment_id] for name, of_outcome in probabilities.items() if segment_id in of_outcome}
        labels = [product["label"] for product in products.get(segment_id, [])[:PRODUCTS_SHOWN]]
        rows.append(
            segment
            | {
                "expected_net": value and value["net"],
                "net_per_buyer": value and value["net"] / value["buyers"],
                "chances": {name: chances[name]["mean"] for name in _OUTCOMES if name in chances},
                "products": labels,
                "entered": sum(m["customers"] for m in moves if m["to_segment_id"] == segment_id),
                "left": sum(m["customers"] for m in moves if m["from_segment_id"] == segment_id),
                "holdouts": list(holdouts.get(segment_id, [])),
                "ideas": _list_ideas(segment_id, chances, _average(probabilities), value, labels),
            }
        )
    return sorted(rows, key=lambda row: (-(row["expected_net"] or 0), row["segment_id"]))


def _average(probabilities: Mapping[str, Mapping[int, dict]]) -> dict[str, float]:
    """Return the mean probability of each outcome over all eligible customers of the listed segments."""
    return {
        name: sum(row["expected"] for row in rows.values()) / sum(row["customers"] for row in rows.values())
        for name, rows in probabilities.items()
        if rows
    }


def _list_ideas(
    segment_id: int, chances: Mapping[str, dict], means: Mapping[str, float], value: dict | None, products: Sequence[str]
) -> list[str]:
    """Return what to try, each with the figure that speaks for it. Rules, not causes: only a holdout shows what helps.

    >>> churn = {"churn": {"mean": 0.5, "expected": 40.2, "customers": 80}}
    >>> _list_ideas(1, churn, {"churn": 0.3}, {"net": 1000.0, "buyers": 100}, [])
    ['Ask them back before they go: about 40 of 80 are expected not to order again in their usual time.']
    """
    if segment_id == DORMANT:
        return ["Win back a part of them: each has been silent for a long time, so whoever returns is a gain."]

    def exceeds(name: str) -> bool:
        return name in chances and chances[name]["mean"] > MUCH_MORE * means[name]

    ideas = []
    is_leaving = exceeds("churn")
    if is_leaving:
        n_leaving, n_eligible = chances["churn"]["expected"], chances["churn"]["customers"]
        ideas.append(
            f"Ask them back before they go: about {n_leaving:,.0f} of {n_eligible:,} are expected not to order again in their "
            "usual time."
        )
    if exceeds("next order") and not is_leaving:
        offer = f" Offer what marks them, such as {products[0]}." if products else ""
        ideas.append(
            f"Give no discount for an order that comes anyway: {chances['next order']['mean'] * 100:.0f} % order soon.{offer}"
        )
    elif products:
        ideas.append(f"Give a reason to come back: offer {', '.join(products)}.")
    if exceeds("high value"):
        ideas.append(
            f"Serve them first: {chances['high value']['mean'] * 100:.0f} % will be among the customers who bring most money."
        )
    if exceeds("returns"):
        ideas.append(f"Look into returns: {chances['returns']['mean'] * 100:.0f} % are expected to get money back.")
    if not ideas and value:
        ideas.append("Nothing sets them apart from the average; leave them alone, or test a small offer.")
    return ideas
