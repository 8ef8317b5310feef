"""marts.effects: what a campaign changed, against a shop whose true effect is planted, and what is not claimed."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from jobs.marts import effects
from jobs.scores import holdouts
from tests.jobs.marts.campaign_shop import (
    CAMPAIGN,
    DAYS,
    EVE,
    FIRST,
    FOREVER,
    KEY,
    LAST,
    draw_orders,
    list_days,
    write_shop,
)

MIDDLE = FIRST + timedelta(days=9)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET", KEY)
    shop = write_shop(tmp_path)
    shop.declare(CAMPAIGN)
    holdouts.run(shop.lake, shop.settings, EVE)
    return shop


def run_campaign(shop, effect: float = 0.0, seed: int = 6) -> None:
    """Write what customers do in the campaign; treated ones have `effect` more orders on average, all on the tenth day."""
    days = list_days(FIRST, LAST)
    orders = draw_orders(shop.n, len(days), seed)
    more = np.random.default_rng(3).random(shop.n) < effect
    orders[9] += more & ~shop.held_out()
    shop.act(orders, days)
    for day in (FIRST, MIDDLE, LAST):
        shop.know(day)


def measure(shop, day, name: str = "spring") -> dict:
    """Return the rows of a campaign as of a day, by segment; None is the whole audience."""
    effects.run(shop.lake, shop.settings, day)
    rows = shop.lake.read_arrow(effects.TABLE, days=[day]).to_pylist()
    return {row["segment_id"]: row for row in rows if row["campaign"] == name}


def test_before_the_campaign_a_row_says_what_effect_it_will_find(shop):
    rows = measure(shop, EVE)
    total = rows[None]
    assert (total["status"], total["difference"], total["mean_treated"]) == ("planned", None, None)
    assert total["n_treated"] + total["n_holdout"] == 1200
    assert total["n_holdout"] == shop.held_out().sum() == pytest.approx(total["expected_holdout"], abs=50)
    assert 0.1 < total["detectable_share"] < 0.3
    assert total["needed_customers"] == pytest.approx(1200 * (total["detectable_share"] / 0.3) ** 2, rel=0.01)
    assert {rows[i]["segment_name"] for i in (1, 2)} == {"Loyal", "Rare"}
    assert all(rows[i]["detectable_share"] > total["detectable_share"] for i in (1, 2))


@pytest.mark.parametrize(("effect", "status"), [(0.5, "effect"), (0.0, "no_effect")])
def test_at_the_end_a_planted_effect_is_found_and_none_is_not(shop, effect, status):
    run_campaign(shop, effect)
    total = measure(shop, LAST)[None]
    assert total["status"] == status
    assert total["low"] <= effect <= total["high"]
    assert total["difference"] == pytest.approx(total["mean_treated"] - total["mean_holdout"])
    assert (total["p_value"] < 0.05) == (status == "effect")
    assert total["variance_reduction"] > 0.05
    assert total["relative"] == pytest.approx(total["difference"] / total["mean_holdout"])


def test_until_the_last_day_the_interval_is_wider_and_only_a_plain_effect_is_claimed(shop):
    run_campaign(shop, effect=0.5)
    first, middle, last = (measure(shop, day)[None] for day in (FIRST, MIDDLE, LAST))
    assert [row["status"] for row in (first, middle, last)] == ["running", "effect", "effect"]
    assert middle["high"] - middle["low"] > 1.2 * (last["high"] - last["low"])
    assert first["p_value"] == 1.0


def test_segments_have_rows_of_their_own_with_corrected_p_values(shop):
    shop.declare(CAMPAIGN.replace("smallest_effect = 0.3", "smallest_effect = 0.6"))
    run_campaign(shop, effect=0.5)
    rows = measure(shop, LAST)
    assert set(rows) == {None, 1, 2}
    larger, smaller = sorted((rows[i]["p_value"] for i in (1, 2)), reverse=True)
    corrected = sorted((rows[i]["p_corrected"] for i in (1, 2)), reverse=True)
    assert corrected == pytest.approx([max(larger, 2 * smaller), min(1.0, 2 * smaller)])
    widths = [(rows[i]["high"] - rows[i]["low"]) / rows[i]["detectable"] for i in (None, 1)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)  # both grow with the correction


@pytest.mark.parametrize(
    ("metric", "treated"), [("orders", 2.0), ("visits", 2.0), ("net", 20.0), ("conversion", 1.0), ("churn", 0.0)]
)
def test_a_metric_is_what_its_name_says(shop, metric, treated):
    """Every treated customer orders twice for 10 in two sessions; one in two of the others does so once."""
    shop.declare(CAMPAIGN.replace('"orders"', f'"{metric}"').replace("smallest_effect = 0.3", "smallest_effect = 0.9"))
    held_out = shop.held_out()
    orders = np.where(held_out, np.arange(shop.n) % 4 < 2, 2)
    shop.act(np.array([orders]), [FIRST])
    shop.know(LAST)
    total = measure(shop, LAST)[None]
    untreated = {"orders": 0.5, "visits": 0.5, "net": 5.0, "conversion": 0.5, "churn": 0.5}[metric]
    assert (total["metric"], total["status"]) == (metric, "effect")
    assert total["mean_treated"] == pytest.approx(treated, abs=0.05 * (10 if metric == "net" else 1))
    assert total["mean_holdout"] == pytest.approx(untreated, abs=0.12 * (10 if metric == "net" else 1))


def test_too_few_customers_claim_nothing_and_say_how_many_are_needed(shop):
    shop.declare(CAMPAIGN.replace("smallest_effect = 0.3", "smallest_effect = 0.02"))
    run_campaign(shop, effect=0.5)
    omission = effects.run(shop.lake, shop.settings, LAST)
    rows = measure(shop, LAST)
    assert {row["status"] for row in rows.values()} == {"too_few"}
    assert {row[name] for row in rows.values() for name in ("difference", "low", "p_value", "mean_treated")} == {None}
    needed = rows[None]["needed_customers"]
    assert needed > 50_000
    assert omission == (
        f"campaign spring: not enough customers to tell: {needed:,} needed for an effect of 2 %, and 1,200 are in the audience"
    )


def test_customers_lost_on_one_side_are_a_mismatch_and_nothing_is_claimed(shop):
    """A third of the treated were merged into other accounts during the campaign."""
    run_campaign(shop, effect=0.5)
    is_lost = ~shop.held_out() & (np.arange(shop.n) % 3 == 0)
    shop.know(LAST, [customer for customer, lost in zip(shop.ids, is_lost, strict=True) if not lost])
    rows = measure(shop, LAST)
    assert rows[None]["mismatch_p"] < 0.001
    assert {row["status"] for row in rows.values()} == {"mismatch"}
    assert {row["difference"] for row in rows.values()} == {None}
    assert rows[None]["qini"] is None


def test_nothing_known_later_or_done_before_or_after_the_window_counts(shop):
    run_campaign(shop)
    before = measure(shop, LAST)[None]
    extra = [
        {"customer_id": customer, "day": day, "identified_on": identified_on, "known_until": known_until, "orders": 50,
         "sessions": 1, "net": 1}
        for customer, is_out in zip(shop.ids, shop.held_out(), strict=True) if not is_out
        for day, identified_on, known_until in (
            (FIRST, LAST + timedelta(days=1), FOREVER),  # known too late
            (FIRST, FIRST, LAST),  # no longer holds on the last day
            (LAST + timedelta(days=1), LAST + timedelta(days=1), FOREVER),  # after the window
            (EVE, FIRST, FOREVER),  # before it, and not known when the audience was taken
        )
    ]  # fmt: skip
    stored = shop.lake.read_arrow(DAYS)
    shop.lake.replace_rows(DAYS, pa.concat_tables([stored, pa.Table.from_pylist(extra, DAYS.arrow_schema)]))
    assert measure(shop, LAST)[None] == before


def test_an_early_day_again_has_the_same_rows_and_a_campaign_ends_after_thirty_days(shop):
    run_campaign(shop, effect=0.5)
    rows = measure(shop, MIDDLE)
    measure(shop, LAST)
    assert measure(shop, MIDDLE) == rows
    for day in (LAST + timedelta(days=30), LAST + timedelta(days=31)):
        shop.know(day)
    assert measure(shop, LAST + timedelta(days=30))[None]["status"] == "effect"
    assert measure(shop, LAST + timedelta(days=31)) == {}


def test_segments_with_other_shares_are_compared_within_their_share(tmp_path, monkeypatch):
    """Rare customers are held out more and order less; a plain difference of means would be an effect."""
    monkeypatch.setenv("SHOAL_SECRET", KEY)
    shop = write_shop(tmp_path)
    shop.declare(CAMPAIGN + "holdout_by_segment = { 2 = 0.8 }")
    holdouts.run(shop.lake, shop.settings, EVE)
    days = list_days(FIRST, LAST)
    orders = draw_orders(shop.n, len(days), 6)
    orders[:, 1::2] = 0  # segment 2
    shop.act(orders, days)
    shop.know(LAST)
    total = measure(shop, LAST)[None]
    assert total["status"] == "no_effect"
    assert abs(total["difference"]) < 0.15
    held_out, of_customer = shop.held_out(), orders.sum(axis=0)
    assert of_customer[~held_out].mean() - of_customer[held_out].mean() > 0.3


def test_without_a_campaign_or_a_holdout_there_are_no_rows(shop, tmp_path):
    settings = replace(shop.settings, campaigns=str(tmp_path / "none"))
    assert effects.run(shop.lake, settings, EVE) is None
    shop.declare(CAMPAIGN.replace("spring", "late"), "late")
    assert measure(shop, EVE, "late") == {}
    assert shop.lake.exists("marts.campaign_uplift")
