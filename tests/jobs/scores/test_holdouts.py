"""scores.holdouts: who is in the audience of a campaign and held out, and that nobody changes sides."""

from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pyarrow as pa
import pytest

from jobs.config.campaigns import Campaign, Condition
from jobs.config.settings import load_settings
from jobs.scores import holdouts
from jobs.scores._inputs import ASSIGNMENTS
from jobs.storage.lake import Lake
from jobs.storage.table import Table

FIRST = date(2024, 6, 10)
EVE = FIRST - timedelta(days=1)
KEY = "a key of the tests alone"
FEATURES = Table(
    "features.customers",
    "What customers are.",
    "customer_id STRING, day DATE, orders_365d BIGINT, country STRING",
    partition="day",
)
REFRESHES = Table("marts.refreshes", "The published days.", "day DATE")
SPRING = f'name = "spring"\nfirst_day = {FIRST}\nlast_day = 2024-06-30\nmetric = "orders"\nsmallest_effect = 0.1\nholdout = 0.3\n'


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET", KEY)
    return Lake(None, str(tmp_path / "lake"))


@pytest.fixture
def declare(tmp_path):
    """Return a function that declares a campaign, and returns the settings."""

    def write(text: str, name: str = "spring"):
        folder = tmp_path / "campaigns"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.toml").write_text(text)
        return replace(load_settings({}), campaigns=str(folder))

    return write


def write_day(lake: Lake, day: date, n: int = 600, moved: int = 0) -> None:
    """Write n customers of three segments; the first `moved` of them are in the next segment."""
    rows = [
        {"customer_id": f"c{i:04}", "day": day, "segment_id": 1 + (i + (i < moved)) % 3, "orders_365d": i % 5,
         "country": None if i % 7 == 0 else "GB" if i % 2 else "FR"}
        for i in range(n)
    ]  # fmt: skip
    lake.replace_rows(
        ASSIGNMENTS, pa.Table.from_pylist([pick(row, ASSIGNMENTS) for row in rows], ASSIGNMENTS.arrow_schema), [day]
    )
    lake.replace_rows(FEATURES, pa.Table.from_pylist([pick(row, FEATURES) for row in rows], FEATURES.arrow_schema), [day])


def pick(row: dict, table: Table) -> dict:
    return {name: row[name] for name in table.columns}


def publish(lake: Lake, *days: date) -> None:
    lake.replace_rows(REFRESHES, pa.table({"day": pa.array(days, pa.date32())}))


def read_holdouts(lake: Lake) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(lake.read_arrow(holdouts.TABLE))).sort("customer_id")


def test_segments_have_the_shares_that_the_campaign_states(lake, declare):
    write_day(lake, EVE, n=3000)
    assert holdouts.run(lake, declare(SPRING + "holdout_by_segment = { 2 = 0.6 }"), EVE) is None
    held = read_holdouts(lake).group_by("segment_id").agg(pl.col("holdout").mean(), pl.col("share").first()).sort("segment_id")
    assert held["share"].to_list() == [0.3, 0.6, 0.3]
    assert held["holdout"].to_list() == pytest.approx([0.3, 0.6, 0.3], abs=0.05)


def test_everyone_stays_on_their_side_once_a_day_of_the_campaign_is_published(lake, declare):
    settings = declare(SPRING)
    write_day(lake, EVE - timedelta(days=1), n=500)
    holdouts.run(lake, settings, EVE - timedelta(days=1))
    assert len(read_holdouts(lake)) == 500
    write_day(lake, EVE)  # until the campaign begins, new customers come into the audience
    holdouts.run(lake, settings, EVE)
    drawn = read_holdouts(lake)
    assert (len(drawn), set(drawn["assigned_on"])) == (600, {EVE})

    publish(lake, EVE, FIRST)
    for day in (FIRST, FIRST + timedelta(days=1), EVE):  # the eve once more, after a day of the campaign
        write_day(lake, day, n=700, moved=300)
        settings = declare(SPRING.replace("holdout = 0.3", "holdout = 0.9"))
        assert holdouts.run(lake, settings, day) is None
        assert read_holdouts(lake).equals(drawn)


def test_the_eve_again_before_the_campaign_has_the_same_rows(lake, declare):
    write_day(lake, EVE)
    settings = declare(SPRING)
    holdouts.run(lake, settings, EVE)
    drawn = read_holdouts(lake)
    publish(lake, EVE)
    holdouts.run(lake, settings, EVE)
    write_day(lake, EVE - timedelta(days=3), n=10)
    holdouts.run(lake, settings, EVE - timedelta(days=3))  # an older day changes nothing
    assert read_holdouts(lake).equals(drawn)


@pytest.mark.parametrize(
    ("lines", "ids"),
    [
        ("segments = [2]", [i for i in range(600) if i % 3 == 1]),
        ('where = [["orders_365d", ">=", 3]]', [i for i in range(600) if i % 5 >= 3]),
        ('where = [["country", "!=", "GB"]]', [i for i in range(600) if i % 7 and not i % 2]),  # not known is not fulfilled
        (
            'segments = [1, 3]\nwhere = [["orders_365d", "in", [0, 4]], ["country", "in", ["GB"]]]',
            [i for i in range(600) if i % 3 != 1 and i % 5 in (0, 4) and i % 7 and i % 2],
        ),
    ],
)
def test_the_audience_is_in_the_segments_and_fulfils_every_condition(lake, declare, lines, ids):
    write_day(lake, EVE)
    holdouts.run(lake, declare(SPRING + lines), EVE)
    assert read_holdouts(lake)["customer_id"].to_list() == [f"c{i:04}" for i in ids]


def test_customers_can_be_chosen_by_what_they_are_worth():
    customers = pl.DataFrame({"customer_id": ["a", "b", "c"], "segment_id": [1, 1, 1], "p_alive": [0.2, None, 0.9]})
    campaign = Campaign("spring", FIRST, FIRST, "orders", 0.1, 0.5, where=(Condition("p_alive", "<", 0.5),))
    assert holdouts.select_audience(customers, campaign)["customer_id"].to_list() == ["a"]


def test_what_cannot_be_held_out_is_one_line_and_the_day_goes_on(lake, declare, monkeypatch):
    """A campaign declared after it began, a wrong file, nobody in the audience, and no key; the good campaign has its rows."""
    write_day(lake, EVE)
    settings = declare(SPRING)
    declare(SPRING.replace("spring", "late").replace(str(FIRST), str(EVE)), "late")
    declare(SPRING.replace("spring", "empty") + "segments = [9]", "empty")
    declare(SPRING.replace("holdout = 0.3", "holdout = 0"), "zero")
    lines = holdouts.run(lake, settings, EVE)
    assert "zero.toml: holdout = 0 must be above 0 and below 1" in lines
    assert f"campaign late began on {EVE} and was declared later: no holdout was kept" in lines
    assert f"campaign empty has no audience: no customer of {EVE} fulfils its conditions" in lines
    assert set(read_holdouts(lake)["campaign"]) == {"spring"}

    monkeypatch.delenv("SHOAL_SECRET")
    assert (
        "holdouts of empty, spring are left out: settings: holdouts of campaigns are drawn by a keyed hash and SHOAL_SECRET"
        in (holdouts.run(lake, settings, EVE))
    )


def test_without_a_campaign_nothing_is_read_and_no_key_is_needed(lake, tmp_path, monkeypatch):
    monkeypatch.delenv("SHOAL_SECRET")
    assert holdouts.run(lake, replace(load_settings({}), campaigns=str(tmp_path / "none")), EVE) is None
    assert len(read_holdouts(lake)) == 0
