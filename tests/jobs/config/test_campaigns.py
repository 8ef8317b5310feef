"""conf/campaigns: a campaign is read strictly, and a wrong file is one line."""

from datetime import date

import pytest

from jobs.config.campaigns import Campaign, Condition, read_campaigns
from jobs.config.settings import HOME
from jobs.errors import UserError

SPRING = """
name = "spring"
first_day = 2026-03-01
last_day = 2026-03-28
metric = "net"
smallest_effect = 0.1
holdout = 0.2
"""


def read(tmp_path, *texts: str):
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.toml").write_text(text)
    return read_campaigns(str(tmp_path))


def test_a_campaign_has_its_window_audience_and_shares(tmp_path):
    more = (
        'segments = [3, 5]\nwhere = [["orders_365d", ">=", 2], ["country", "in", ["GB", "IE"]]]\n'
        "holdout_by_segment = { 3 = 0.5 }\npre_days = 30\n"
    )
    (campaign,), problems = read(tmp_path, SPRING + more)
    assert problems == {}
    assert campaign == Campaign(
        "spring", date(2026, 3, 1), date(2026, 3, 28), "net", 0.1, 0.2, {3: 0.5}, (3, 5),
        (Condition("orders_365d", ">=", 2), Condition("country", "in", ("GB", "IE"))), 30,
    )  # fmt: skip
    assert (campaign.days, campaign.eve, campaign.share_of(3), campaign.share_of(5)) == (28, date(2026, 2, 28), 0.5, 0.2)


def test_the_example_can_be_read_and_a_folder_that_does_not_exist_declares_nothing(tmp_path):
    sample = HOME / "conf" / "campaigns" / "example.toml.sample"
    campaigns = read(tmp_path, sample.read_text())
    assert [campaign.name for campaign in campaigns.declared] == ["spring_win_back"]
    assert read_campaigns(str(tmp_path / "none")) == ((), {})
    assert read_campaigns(str(HOME / "conf" / "campaigns")) == ((), {})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('metric = "profit"', "metric = 'profit' does not exist. Choose one of orders, net, visits, conversion, churn"),
        ("holdout = 0", "holdout = 0 must be above 0 and below 1: without a holdout no effect can be measured"),
        ("holdout = 1.0", "holdout = 1.0 must be above 0 and below 1"),
        ("holdout_by_segment = { 3 = 0 }", "holdout_by_segment.3 = 0 must be above 0"),
        ("holdout_by_segment = { loyal = 0.1 }", "must name segments by number"),
        ('name = "Spring 26"', "name = 'Spring 26' must have lower-case letters"),
        ("last_day = 2026-02-01", "last_day 2026-02-01 is before first_day 2026-03-01"),
        ('first_day = "2026-03-01"', "first_day = '2026-03-01' must be a day"),
        ("smallest_effect = -0.1", "smallest_effect = -0.1 must be above 0"),
        ("segments = []", "segments = [] must be numbers of segments"),
        ("pre_days = 0", "pre_days = 0 must be a number of days of at least 1"),
        ("colour = 1", "unknown key 'colour'. Known: name, first_day"),
        ('where = ["orders_365d > 2"]', "where: 'orders_365d > 2' must have a column, an operator and a value"),
        ('where = [["1=1; DROP TABLE", "=", 2]]', "where: no column '1=1; DROP TABLE'"),
        ('where = [["orders_365d", "LIKE", 2]]', "where: orders_365d: no operator 'LIKE'"),
        ('where = [["orders_365d", ">", "2"]]', "where: orders_365d > '2': the column has numbers"),
        ('where = [["orders_365d", ">", [2]]]', "where: orders_365d > [2]: the column has numbers, and only 'in' takes a list"),
        ('where = [["country", "<", "GB"]]', "where: country < 'GB': a column of texts takes = != in"),
        ("name =", "Invalid value"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_name(tmp_path, line, message):
    key = line.split(" = ")[0]
    kept = [text for text in SPRING.splitlines() if not text.startswith(f"{key} ")]
    declared, problems = read(tmp_path, "\n".join([*kept, line]))
    assert declared == ()
    assert message in problems["0.toml"]
    assert problems["0.toml"].startswith(f"{tmp_path}/0.toml: ")
    assert "\n" not in problems["0.toml"]


def test_a_wrong_file_leaves_the_others_and_two_of_a_name_are_an_error(tmp_path):
    campaigns = read(tmp_path, SPRING, SPRING, SPRING.replace("spring", "summer"))
    assert [campaign.name for campaign in campaigns.declared] == ["spring", "summer"]
    assert "another file declares the campaign 'spring' too" in campaigns.problems["1.toml"]
    assert campaigns.find("summer").name == "summer"
    with pytest.raises(UserError, match="another file declares"):
        campaigns.find("autumn")


def test_a_campaign_that_is_not_declared_is_an_error_with_those_that_are(tmp_path):
    with pytest.raises(UserError, match="no campaign 'autumn'; known: spring"):
        read(tmp_path, SPRING).find("autumn")
