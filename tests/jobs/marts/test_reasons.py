"""Reasons: what is named decides, what goes together is one reason, and what the encoder does not look at is none."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.marts import _reasons

FEATURES = ["orders_90d", "orders_365d", "return_share_365d", "night_share_365d"]
SAID = ["orders in 90 days", "orders in 365 days", "of the money returned", "from 0 to 6 o'clock"]
UNITS = ["count", "count", "share", "share"]
IDS = np.array([2, 5])
CENTRES = np.array([[0.0, 0.0], [4.0, 4.0]])


class OrdersAndReturns:
    """One axis of the orders, of 90 and of 365 days alike, one of what is returned; the time of day is not looked at."""

    def run(self, matrix, attributes):
        return (np.nan_to_num(np.stack([(matrix[:, 0] + matrix[:, 1]) / 8, matrix[:, 2] * 8], axis=1)),)


def nearest(values):
    (vectors,) = OrdersAndReturns().run(values, None)
    return np.stack([np.linalg.norm(vectors - centre, axis=1) for centre in CENTRES]).argmin(axis=0)


def distances(values, segments):
    (vectors,) = OrdersAndReturns().run(values, None)
    return np.linalg.norm(vectors - CENTRES[np.searchsorted(IDS, segments)], axis=1)


def customers(n, seed):
    random = np.random.default_rng(seed)
    orders = np.where(random.random(n) < 0.5, 10, 2) + random.integers(0, 3, n)
    returns = np.where(random.random(n) < 0.5, 0.5, 0.1) + random.random(n) * 0.1
    values = np.stack([orders, orders * 2, returns, random.random(n)], axis=1).astype(np.float32)
    return values, np.full((n, 0), "", dtype=object), IDS[nearest(values)]


def explained(contrasts, values, segments, runners_up):
    own, other = distances(values, segments), distances(values, runners_up)
    towards = _reasons.towards_runner_up(contrasts, segments, runners_up, own, 1 - own / other)
    return _reasons.reasons(contrasts, values, np.full((len(values), 0), "", dtype=object), segments, runners_up, towards)


@pytest.fixture(scope="module")
def contrasts():
    return _reasons.contrasts(OrdersAndReturns(), FEATURES, UNITS, IDS, CENTRES, *customers(500, 1))


def test_windows_of_one_thing_are_one_family(contrasts):
    assert [family.tolist() for family in contrasts.families] == [[0, 1], [2], [3]]


def test_with_the_named_families_as_is_typical_of_the_runner_up_the_segment_is_another(contrasts):
    values, _, segments = customers(300, 2)
    runners_up = IDS.sum() - segments
    texts, hold = explained(contrasts, values, segments, runners_up)

    changed, typical = values.copy(), contrasts.typical[np.searchsorted(IDS, runners_up)]
    for row, text in enumerate("; ".join(some) for some in texts):
        for family in contrasts.families:
            if any(SAID[column] in text for column in family):
                changed[row, family] = typical[row, family]
    assert hold.mean() >= 0.8
    assert ((IDS[nearest(changed)] != segments) == hold).all()
    assert {len(some) for some in texts} == {1, 2}


def test_what_does_not_bring_the_customer_over_is_no_reason_though_it_is_ranked_first(contrasts):
    ranked = np.full_like(contrasts.ranked, -1)
    ranked[:, :, :2] = 2, 0  # the time of day, the orders
    values = np.array([[12, 24, 0.25, 0.95]], dtype=np.float32)

    found = replace(contrasts, ranked=ranked)
    texts, hold = explained(found, values, IDS[1:], IDS[:1])

    assert len(texts[0]) == 1
    assert SAID[0] in texts[0][0]
    assert hold.tolist() == [True]


def test_a_customer_at_the_centre_is_as_far_from_the_runner_up_as_the_centres_are_apart(contrasts):
    towards = _reasons.towards_runner_up(contrasts, IDS[:1], IDS[1:], np.array([0.0]), np.array([1.0]))

    assert towards.tolist() == pytest.approx([-np.sqrt(32)])


def test_a_reason_says_the_number_and_what_is_typical_of_the_runner_up(contrasts):
    values = np.array([[12, 24, 0.55, 0.5]], dtype=np.float32)

    texts, _ = explained(contrasts, values, IDS[1:], IDS[:1])

    assert texts[0][0] in (
        "12 orders in 90 days, typical of the runner-up 3",
        "55 % of the money returned in 365 days, typical of the runner-up 15 %",
    )


def test_a_runner_up_that_no_customer_of_the_sample_has_is_treated_as_the_commonest():
    values, attributes, segments = customers(500, 1)
    centres = np.vstack([CENTRES, [[90.0, 90.0]]])

    found = _reasons.contrasts(OrdersAndReturns(), FEATURES, UNITS, np.array([2, 5, 6]), centres, values, attributes, segments)

    assert (found.ranked[0, 2] == found.ranked[0, 1]).all()
    assert found.ranked[0, 1, 0] >= 0


def test_an_unknown_value_is_not_named(contrasts):
    ranked = np.full_like(contrasts.ranked, -1)
    ranked[:, :, :2] = 0, 1  # the orders, the returns
    values = np.array([[np.nan, np.nan, 0.15, 0.5]], dtype=np.float32)

    found = replace(contrasts, ranked=ranked)
    texts, _ = explained(found, values, IDS[:1], IDS[1:])

    assert len(texts[0]) == 1
    assert SAID[2] in texts[0][0]
