"""Reasons: they decide the segment, features that go together are one reason, and ignored features are none."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.marts import _reasons

FEATURES = ["orders_90d", "orders_365d", "return_share_365d", "night_share_365d"]
WORDS = ["orders in 90 days", "orders in 365 days", "of the money returned", "from 0 to 6 o'clock"]
UNITS = ["count", "count", "share", "share"]
IDS = np.array([2, 5])
CENTRES = np.array([[0.0, 0.0], [4.0, 4.0]])


class OrdersAndReturns:
    """An encoder with one axis for the orders of 90 and 365 days and one for returns; it ignores the time of day."""

    def run(self, matrix, attributes):
        return (np.nan_to_num(np.stack([(matrix[:, 0] + matrix[:, 1]) / 8, matrix[:, 2] * 8], axis=1)),)


def find_nearest(values):
    (vectors,) = OrdersAndReturns().run(values, None)
    return np.stack([np.linalg.norm(vectors - centre, axis=1) for centre in CENTRES]).argmin(axis=0)


def compute_distances(values, segments):
    (vectors,) = OrdersAndReturns().run(values, None)
    return np.linalg.norm(vectors - CENTRES[np.searchsorted(IDS, segments)], axis=1)


def make_customers(n, seed):
    random = np.random.default_rng(seed)
    orders = np.where(random.random(n) < 0.5, 10, 2) + random.integers(0, 3, n)
    returns = np.where(random.random(n) < 0.5, 0.5, 0.1) + random.random(n) * 0.1
    values = np.stack([orders, orders * 2, returns, random.random(n)], axis=1).astype(np.float32)
    return values, np.full((n, 0), "", dtype=object), IDS[find_nearest(values)]


def explain(explainer, values, segments, runners_up):
    own, runner_up = compute_distances(values, segments), compute_distances(values, runners_up)
    leads = _reasons.lead_of_runner_up(explainer, segments, runners_up, own, 1 - own / runner_up)
    attributes = np.full((len(values), 0), "", dtype=object)
    return _reasons.explain_against_runner_up(explainer, values, attributes, segments, runners_up, leads)


@pytest.fixture(scope="module")
def explainer():
    return _reasons.fit_explainer(OrdersAndReturns(), FEATURES, UNITS, IDS, CENTRES, *make_customers(500, 1))


def test_windows_of_one_feature_are_one_family(explainer):
    assert [family.tolist() for family in explainer.families] == [[0, 1], [2], [3]]


def test_the_segment_changes_where_the_named_families_are_as_typical_of_the_runner_up(explainer):
    values, _, segments = make_customers(300, 2)
    runners_up = IDS.sum() - segments
    texts, hold = explain(explainer, values, segments, runners_up)

    changed, typical = values.copy(), explainer.typical[np.searchsorted(IDS, runners_up)]
    for row, text in enumerate("; ".join(reasons) for reasons in texts):
        for family in explainer.families:
            if any(WORDS[column] in text for column in family):
                changed[row, family] = typical[row, family]
    assert hold.mean() >= 0.8
    assert ((IDS[find_nearest(changed)] != segments) == hold).all()
    assert {len(reasons) for reasons in texts} == {1, 2}


def test_a_family_that_does_not_move_the_customer_is_no_reason_even_if_ranked_first(explainer):
    ranked = np.full_like(explainer.ranked, -1)
    ranked[:, :, :2] = 2, 0  # the time of day, the orders
    values = np.array([[12, 24, 0.25, 0.95]], dtype=np.float32)

    texts, hold = explain(replace(explainer, ranked=ranked), values, IDS[1:], IDS[:1])

    assert len(texts[0]) == 1
    assert WORDS[0] in texts[0][0]
    assert hold.tolist() == [True]


def test_for_a_customer_at_the_centre_the_lead_is_the_distance_between_the_centres(explainer):
    leads = _reasons.lead_of_runner_up(explainer, IDS[:1], IDS[1:], np.array([0.0]), np.array([1.0]))

    assert leads.tolist() == pytest.approx([-np.sqrt(32)])


def test_a_reason_states_the_value_and_what_is_typical_of_the_runner_up(explainer):
    values = np.array([[12, 24, 0.55, 0.5]], dtype=np.float32)

    texts, _ = explain(explainer, values, IDS[1:], IDS[:1])

    assert texts[0][0] in (
        "12 orders in 90 days, typical of the runner-up 3",
        "55 % of the money returned in 365 days, typical of the runner-up 15 %",
    )


def test_a_runner_up_that_no_customer_of_the_sample_has_gets_the_ranking_of_the_commonest():
    values, attributes, segments = make_customers(500, 1)
    centres = np.vstack([CENTRES, [[90.0, 90.0]]])

    explainer = _reasons.fit_explainer(
        OrdersAndReturns(), FEATURES, UNITS, np.array([2, 5, 6]), centres, values, attributes, segments
    )

    assert (explainer.ranked[0, 2] == explainer.ranked[0, 1]).all()
    assert explainer.ranked[0, 1, 0] >= 0


def test_an_unknown_value_is_no_reason(explainer):
    ranked = np.full_like(explainer.ranked, -1)
    ranked[:, :, :2] = 0, 1  # the orders, the returns
    values = np.array([[np.nan, np.nan, 0.15, 0.5]], dtype=np.float32)

    texts, _ = explain(replace(explainer, ranked=ranked), values, IDS[:1], IDS[1:])

    assert len(texts[0]) == 1
    assert WORDS[2] in texts[0][0]
