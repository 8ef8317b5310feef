"""The traits of a segment's card."""

import pytest

from jobs.report.overview import describe_segments
from tests.jobs.report.lake import make_profiles


def test_an_extreme_effect_does_not_flatten_the_others():
    extreme = {"feature": "orders_7d", "meaning": "", "typical": 1.0, "overall": 0.0, "effect": 9.7, "low": 9.0, "high": 10.4}
    weak = extreme | {"effect": -1.5, "low": -1.8, "high": -1.2}
    profile = make_profiles()[0] | {"traits": [extreme, weak | {"feature": "net_7d"}]}

    first, second = describe_segments([profile], 262, [], "GBP")[0]["traits"]

    assert first["bar"] == (0.5, 0.5)
    assert second["bar"] == (0.25, 0.25)
    assert second["whisker"] == pytest.approx((0.2, 0.1))
    assert (first["effect"], second["effect"]) == ("+9.70", "-1.50")
