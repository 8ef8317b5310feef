"""The sections on the segments of the day: headline figures, sizes and money, and the traits of each segment."""

from collections.abc import Iterable

from jobs import catalogue
from jobs.report._segments import colour_class
from jobs.report.formatting import format_effect, format_feature_value
from jobs.traits import DORMANT

TRAITS_SHOWN = 3
LONGEST_EFFECT_SDS = 3.0  # longer bars are cut, so that one extreme segment does not flatten the others
_UNITS = {feature.name: feature.unit for feature in catalogue.FEATURES}


def summarize_customers(profiles: list[dict]) -> dict:
    """Return the headline figures from the rows of marts.segment_profiles of a day."""
    largest = max(profiles, key=lambda p: p["n_customers"])
    customers = round(largest["n_customers"] / largest["share"])
    dormant = sum(p["n_customers"] for p in profiles if p["segment_id"] == DORMANT)
    return {
        "customers": customers,
        "dormant": dormant,
        "active": customers - dormant,
        "segments": sum(p["segment_id"] != DORMANT for p in profiles),
        "orders": sum(p["orders_365d"] or 0 for p in profiles),
        "net": sum(p["net_365d"] or 0 for p in profiles),
        "unlisted": customers - sum(p["n_customers"] for p in profiles),
    }


def describe_segments(profiles: list[dict], active: int, definitions: list[dict], currency: str) -> list[dict]:
    """Return the profiles with what their row and card show: colour, bars, definition and traits.

    `active` is the number of active customers. Shares are of the active customers: where most customers are dormant,
    shares of all customers would say nothing.
    """
    definition_of = {d["segment_id"]: d for d in definitions}
    active_share = {p["segment_id"]: p["n_customers"] / active for p in profiles if p["segment_id"] != DORMANT}
    largest = max([*active_share.values(), *(p["net_share"] or 0 for p in profiles)])  # one scale for both bars
    traits = {p["segment_id"]: _choose_traits(p["traits"] or []) for p in profiles}
    interval_ends = (abs(end) for rows in traits.values() for trait in rows for end in (trait["low"], trait["high"]))
    widest = min(max(interval_ends, default=0), LONGEST_EFFECT_SDS)
    return [
        p
        | {
            "colour": colour_class(p["segment_id"]),
            "is_dormant": p["segment_id"] == DORMANT,
            "active_share": active_share.get(p["segment_id"]),
            "active_bar": active_share.get(p["segment_id"], 0) / largest if largest else 0,
            "net_bar": max(p["net_share"] or 0, 0) / largest if largest else 0,
            "definition": definition_of.get(p["segment_id"]),
            "traits": [_place_trait(trait, widest, currency) for trait in traits[p["segment_id"]]],
        }
        for p in profiles
    ]


def _choose_traits(traits: Iterable[dict]) -> list[dict]:
    """Return the first traits, a feature in one window only: the same feature over 30, 90 and 365 days is one trait."""
    first_of_kind: dict[str, dict] = {}
    for trait in traits:
        stem, _, window = trait["feature"].rpartition("_")
        has_window = window.removesuffix("d").isdigit() or window == "life"
        first_of_kind.setdefault(stem if has_window else trait["feature"], trait)
    return list(first_of_kind.values())[:TRAITS_SHOWN]


def _place_trait(trait: dict, widest: float, currency: str) -> dict:
    """Return the trait as text, and its places on a scale from -widest to widest as shares of the length from the left."""
    cut = {name: max(-widest, min(widest, trait[name])) for name in ("effect", "low", "high")}
    place = {name: 0.5 + 0.5 * value / widest if widest else 0.5 for name, value in cut.items()}
    unit = _UNITS.get(trait["feature"], "")
    return {
        "meaning": trait["meaning"],
        "typical": format_feature_value(trait["typical"], unit, currency),
        "overall": format_feature_value(trait["overall"], unit, currency),
        "effect": format_effect(trait["effect"]),
        "interval": f"{format_effect(trait['low'])} to {format_effect(trait['high'])}",
        "bar": (min(place["effect"], 0.5), abs(place["effect"] - 0.5)),
        "whisker": (place["low"], place["high"] - place["low"]),
    }
