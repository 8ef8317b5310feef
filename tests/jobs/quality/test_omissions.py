"""quality.omissions: what a day lacks, until a rerun has it."""

from datetime import date

from jobs.quality.omissions import read_omissions, write_omissions
from jobs.storage.lake import Lake

DAY, NEXT = date(2024, 3, 1), date(2024, 3, 2)


def test_a_day_says_what_it_lacks_until_a_rerun_has_it(tmp_path):
    lake = Lake(None, str(tmp_path))
    assert read_omissions(lake, DAY) == []
    write_omissions(lake, DAY, {"scores.recommendations": "no products", "scores.customer_outcomes": "outcome churn: too few"})
    write_omissions(lake, NEXT, {"scores.recommendations": "no products"})
    assert read_omissions(lake, DAY) == [
        "scores.customer_outcomes: outcome churn: too few",
        "scores.recommendations: no products",
    ]
    write_omissions(lake, DAY, {"scores.recommendations": None, "marts.effects": "too few customers"})
    assert read_omissions(lake, DAY) == ["marts.effects: too few customers", "scores.customer_outcomes: outcome churn: too few"]
    write_omissions(lake, DAY, {"scores.customer_outcomes": None, "marts.effects": None})
    assert read_omissions(lake, DAY) == []
    assert read_omissions(lake, NEXT) == ["scores.recommendations: no products"]
