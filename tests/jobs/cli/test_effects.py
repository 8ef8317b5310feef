"""`shoal effect` on a shop with a campaign, from the day before it to its end."""

from datetime import date, timedelta

import pyarrow as pa
import pytest

from jobs.__main__ import main
from jobs.cli.effects import print_effect
from jobs.errors import UserError
from jobs.marts import effects
from jobs.scores import holdouts
from jobs.storage.table import Table
from tests.jobs.marts.campaign_shop import CAMPAIGN, EVE, FIRST, KEY, LAST, draw_orders, list_days, write_shop

REFRESHES = Table("marts.refreshes", "The published days.", "day DATE")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A shop whose campaign gives each treated customer an order more, published on its eve and its last day."""
    monkeypatch.setenv("SHOAL_SECRET", KEY)
    shop = write_shop(tmp_path)
    shop.declare(CAMPAIGN)
    publish(shop, EVE)
    days = list_days(FIRST, LAST)
    orders = draw_orders(shop.n, len(days), 6)
    orders[4] += ~shop.held_out()
    shop.act(orders, days)
    shop.know(LAST)
    publish(shop, LAST)
    return shop


def publish(shop, day: date) -> None:
    holdouts.run(shop.lake, shop.settings, day)
    effects.run(shop.lake, shop.settings, day)
    days = [*shop.lake.read_arrow(REFRESHES)["day"].to_pylist(), day]
    shop.lake.replace_rows(REFRESHES, pa.table({"day": pa.array(days, pa.date32())}))


def test_the_effect_of_the_latest_day_is_a_sentence_and_a_table(shop, capsys):
    print_effect(shop.settings, "spring", None)
    lines = capsys.readouterr().out.splitlines()
    assert f"spring, orders, {FIRST} to {LAST}, as of {LAST}" in lines
    assert [line.split()[0] for line in lines[-3:]] == ["all", "1", "2"]
    (sentence,) = [line for line in lines if line.startswith("an effect: ")]
    assert "orders per customer, which is" in sentence
    assert any(line.startswith("uplift by ") and line.endswith("so it is not published") for line in lines)


def test_before_the_campaign_it_says_what_can_be_seen(shop, capsys):
    print_effect(shop.settings, "spring", EVE)
    assert "the smallest effect that it will find, with a probability of 80 %: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "day", "message"),
    [
        ("autumn", None, "campaigns: no campaign 'autumn'; known: late, next, spring"),
        ("spring", FIRST, f"effect: {FIRST} is not published in "),
        ("late", None, f"effect: campaign late: no holdout was kept from {EVE} on, so {LAST} has no effect of it"),
        ("next", None, f"nothing is published of it on {LAST}. Run: shoal refresh --steps score,publish --day {LAST}"),
    ],
)
def test_what_cannot_be_printed_is_one_line(shop, name, day, message):
    shop.declare(CAMPAIGN.replace("spring", "late").replace(str(FIRST), str(EVE)), "late")
    later = CAMPAIGN.replace("spring", "next").replace(str(FIRST), "2025-01-01").replace(str(LAST), "2025-01-31")
    shop.declare(later, "next")
    with pytest.raises(UserError, match=r"^[^\n]+$") as raised:
        print_effect(shop.settings, name, day)
    assert message in str(raised.value)


def test_a_mismatch_and_a_wrong_file_end_the_command_with_2(shop, capsys, monkeypatch):
    for name in ("LAKE", "CAMPAIGNS"):
        monkeypatch.setenv(f"SHOAL_{name}", getattr(shop.settings, name.lower()))
    lost = [customer for customer, is_out in zip(shop.ids, shop.held_out(), strict=True) if is_out or int(customer[1:]) % 3]
    shop.know(LAST + timedelta(days=1), lost)
    publish(shop, LAST + timedelta(days=1))
    capsys.readouterr()
    assert main(["effect", "spring"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: effect: campaign spring: ")
    assert "a sample-ratio mismatch, so nothing can be said" in line
    shop.declare(CAMPAIGN.replace('"orders"', '"profit"'))
    assert main(["effect", "spring"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert "spring.toml: metric = 'profit' does not exist" in line
