"""The page of a day, read as a person reads it, from a small published lake."""

import importlib
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs.errors import UserError
from jobs.report.page import write_page
from jobs.storage import files
from tests.jobs.report.lake import (
    DAY,
    SHOP,
    TABLES,
    column_names,
    make_ablation,
    make_group_candidates,
    make_profiles,
    write_outcome_models,
    write_rows,
)
from tests.jobs.report.page_reader import Page


@pytest.mark.parametrize("table", sorted(TABLES))
def test_the_columns_of_these_tests_are_in_the_contracts(table):
    schema = importlib.import_module(f"jobs.{table}").SCHEMA

    assert column_names(table, TABLES[table]()) <= set(re.findall(r"^\s*`?(\w+)`? [A-Z]", schema, re.MULTILINE))


def test_the_page_shows_the_figures_of_the_segments(settings):
    page = Page(write_page(settings, DAY))

    assert page.open == []
    assert "Customers known 2,000 Active 1,378 622 dormant, 31.1 % Segments 3" in page["head"]
    assert "Net, 365 days 395,013 GBP" in page["head"]
    assert "1 Many orders, high spend 262 19.0 % 337,561 85.5 % 1,288.40 14.20 3 days" in page["sizes"]
    assert page["sizes"].endswith("0 Dormant 622 – 0 0.0 % 0.00 0.00 512 days")
    assert "money after discounts and returns, by their own dates, in the last 365 days 1,288.40 GBP" in page["segments"]
    assert "At the last clustering, on 2026-03-30: 262 customers: as they are." in page["segments"]
    assert "The map shows" in page["map"]
    assert "of 1,378 active customers" in page["map"]
    assert "26 customers have changed their segment, are new or are gone since 2026-03-30" in page["moves"]
    assert " 3 of them are in moves of too few customers to be listed." in page["moves"]
    assert "no longer known" not in page["moves"]
    assert "· new customers 3 Browsing a lot, looking only 12 1,200" in page["moves"]
    assert "4 customers 7 customers 12 customers Discount shoppers 4 Browsing" in page["moves"]
    assert "One day is published so far" in page["time"]


def test_the_page_shows_what_to_do_for_each_segment(settings):
    actions = Page(write_page(settings, DAY))["actions"]

    name, n = SHOP[1][:2]
    assert f"1 {name} {n:,} customers 26,200 GBP expected 100.00 per customer Churn 20.0 %. Marked by: Green tea." in actions
    assert "Give a reason to come back: offer Green tea." in actions
    assert actions.count("Holdout in place: spring.") == 1  # of one segment
    assert "No holdout in place: what is done here cannot be proved." in actions


def test_the_page_shows_what_customers_are_worth_and_whether_the_forecast_was_right(settings):
    worth = Page(write_page(settings, DAY))["worth"]

    net = sum(100 * i * SHOP[i][1] for i in (1, 2, 3))
    assert f"{sum(SHOP[i][1] for i in (1, 2, 3)):,} customers who ever ordered are expected to bring {net:,} GBP" in worth
    assert "MBG/NBD is better than the last 90 days and the mean of the segment in orders and money." in worth
    share = f"{100 * 262 * 100 / net:.1f} %"
    assert f"1 Many orders, high spend 262 26,200 {share} 100.00 2.00 50.0 %" in worth
    assert "Dormant" not in worth  # none of them ever ordered
    assert "MBG/NBD 1.25 51.5 46.5 to 60.5 565.25 published" in worth
    assert "1 2,356 4,263 2 54 121" in worth


def test_the_page_shows_what_may_become_of_customers_and_how_well_it_can_be_predicted(settings):
    outcomes = Page(write_page(settings, DAY))["outcomes"]

    n = SHOP[2][1]
    assert "Churn, in 90 days: Logistic regression" in outcomes
    assert f"2 {SHOP[2][0]} {n:,} {round(0.4 * n):,} 40.0 %" in outcomes
    assert "tested as of 2025-12-31 on 713 other customers, of whom it came true for 34.8 %" in outcomes
    assert "Refused, because it alone separates the outcome: leaves_next_week" in outcomes
    assert "Logistic regression published 0.578 0.478 to 0.678" in outcomes
    assert "more order_recency_days : more likely" in outcomes.replace(":", " :").replace("  ", " ")


def test_the_page_shows_what_each_group_of_inputs_adds_and_how_sure_that_is(bare_settings):
    assert "groups" not in Page(write_page(bare_settings, DAY)).words  # a shop without groups has no section
    write_rows(bare_settings.lake, "segments.candidates", make_group_candidates())
    assert "Churn" not in Page(write_page(bare_settings, DAY))["groups"]
    write_rows(bare_settings.lake, "scores.ablation", make_ablation())
    write_outcome_models(bare_settings)
    groups = Page(write_page(bare_settings, DAY))["groups"]

    assert "Group Variance explained by the segments Churn Texts +2.1 (+0.4 to +4.0) adds" in groups
    assert "adds +0.031 (+0.010 to +0.052) adds All groups" in groups
    assert groups.endswith("+1.3 (-1.2 to +4.0) adds nothing that can be told from chance -0.021 (-0.040 to -0.002) takes away")


def test_the_page_shows_what_to_offer_and_by_what_lists_are_made(settings):
    offers = Page(write_page(settings, DAY))["offers"]

    assert "100 active customers have a list of products. Published: ALS. ALS is better than popularity in NDCG." in offers
    assert "ALS 50.0 %, Popularity in the segment 50.0 %" in offers
    assert "made with what was known on 2026-02-28 are compared with what 1,372 customers bought in the 30 days since" in offers
    assert "Popularity 0.140 0.275 to 0.301" in offers
    assert "ALS 0.289 0.275 to 0.301 24.8 % 13.5 % 0.179 41.2 % 5.2 published" in offers
    assert "1 Many orders, high spend 200 Green tea (3.2) Green tea and pot-1 (7.5)" in offers


def test_the_page_shows_what_campaigns_changed_and_claims_nothing_without_power(settings):
    campaigns = Page(write_page(settings, DAY))["campaigns"]

    assert "spring Money after discounts and returns per customer, 2026-03-30 to 2026-03-31: an effect: 5.25" in campaigns
    assert "Uplift by customer by two models, Qini coefficient 0.5 (0.25 to 0.75): better than chance" in campaigns
    assert "All 800 200 55.50 50.25 5.25 1.50 to 9.00 12.0 % effect" in campaigns
    assert "1 Many orders, high spend 210 52 – – – – 12.0 % too few" in campaigns
    assert "not enough customers to tell: 25,000 needed for an effect of 20 %, and 1,000 are in the audience." in campaigns


def test_the_page_shows_why_these_segments_were_published(settings):
    page = Page(write_page(settings, DAY))

    assert "3 0.478 0.9 0.71 19.0 % 1.4 3,520 1,333 chosen" in page["number"]
    n = {i: SHOP[i][1] for i in (1, 2, 3)}
    silhouette = sum(0.1 * i * n[i] for i in n) / sum(n.values())
    assert (
        f"fitted on all {sum(n.values()):,} customers active on 2026-03-30: silhouette {silhouette:.3f}, Davies-Bouldin 1. "
        f"The least separate is segment 1, {SHOP[1][0]}: silhouette 0.100."
    ) in page["number"]
    assert "5 – – – 19.0 % 1.4 3,520 800 refused: fewer clusters than asked" in page["number"]
    assert "Ward 3 0.401 0.9 19.0 % 1.4 3,520" in page["number"]
    assert "HDBSCAN 6 0.623 0.9 19.0 % 1.4 3,520 34.0 % of the customers in no cluster" in page["number"]
    assert "0.322" not in page["number"]  # of another representation
    assert (
        "On 2026-03-30: PCA. The learned embedding does not beat raw features (better in: stability); the better baseline is PCA."
        in page["gate"]
    )
    assert "PCA 3 0.9 12.3 % 10.1 % to 14.7 % 1.62 published" in page["gate"]
    assert "Learned embedding 3 0.9 5.0 % 10.1 % to 14.7 % 1.62" in page["gate"]


def test_the_page_shows_the_quality_the_model_and_the_run(settings):
    page = Page(write_page(settings, DAY))

    assert "5.0 % of the 400 events of the day are flagged as robots (rate 20, 5.0 %)" in page["quality"]
    assert "0 visitors and 0 e-mail addresses are shared by too many customers" in page["quality"]
    assert "0.0412, against 0.0533" in page["model"]
    assert "0.957, against 0.941" in page["model"]
    assert "0.04 of the reconstruction error, 0.22 of orders_7d, 0.08 of views_7d (population" in page["model"]
    assert "0.3 % of values lie outside" in page["model"]
    assert "Published since 2026-03-30" in page["model"]
    assert "Features left out views_30d (the same for 99.8 %), gross_365d (correlates with net_365d, r 0.991)" in page["model"]
    assert "manual__1, published" in page["run"]
    assert "2026-04-01 02:03:09 UTC" in page["run"]
    assert "segments.assignments 4" in page["run"]
    assert "Left out of the day scores.recommendations: nobody bought a product" in page["run"]


def test_rows_are_counted_up_to_the_day_and_not_after(settings):
    words = Page(write_page(settings, DAY))["quality"]

    assert "clean.events 5,129 5,120 5 4 0 9,138 9,120 10 8 0" in words
    assert "clean.events repeated same event 3 6" in words
    assert "covers the 2 days" in words
    assert "clean.events amount 1,234.50" in words


def test_failed_expectations_are_listed(settings):
    words = Page(write_page(settings, DAY))["quality"]

    assert "2 failed, 6 passed, on 3 tables" in words
    assert "clean.events price expect column values to not be null warning – 159 3.1 %" in words
    assert words.index("clean.orders net_amount the day's net is not negative critical -1.5 – –") < words.index("price")
    assert "row count" not in words


def test_the_same_feature_over_two_windows_is_one_trait(settings):
    words = Page(write_page(settings, DAY))["segments"]

    assert "orders in the last 365 days 14.2" in words
    assert "orders in the last 90 days" not in words
    assert "days since the last event or order 4.2 days" in words


def test_the_page_needs_no_network_and_no_script(settings):
    page = Page(write_page(settings, DAY))

    assert {link for link in page.links if not link.startswith("#")} == set()
    assert "<script" not in page.source
    assert not re.search(r"@import|url\(|https?://", page.source)


def test_names_from_data_are_escaped(bare_settings):
    rows = make_profiles()
    rows[0]["segment_name"] = "<b>Tom & 'Jerry'</b>"
    write_rows(bare_settings.lake, "marts.segment_profiles", rows)

    page = Page(write_page(bare_settings, DAY))

    assert "<b>Tom" not in page.source
    assert "<b>Tom & 'Jerry'</b>" in page["sizes"]


def test_the_chart_of_sizes_ends_on_the_day_of_the_page(settings, tmp_path):
    earlier = replace(settings, lake=str(tmp_path / "lake"), reports=str(tmp_path / "other"))
    for table in TABLES:
        write_rows(earlier.lake, table, TABLES[table]())
    profiles = make_profiles()
    days = [DAY - timedelta(days=40), DAY + timedelta(days=1)]
    write_rows(earlier.lake, "marts.segment_profiles", profiles + [p | {"day": day} for p in profiles[:2] for day in days])

    page = Page(write_page(earlier, DAY))

    assert f"{DAY - timedelta(days=40)} {DAY}" in page["time"]
    assert str(DAY + timedelta(days=1)) not in page["time"]
    active = len(profiles) - 1
    chart = page.source.partition('<svg class="time"')[2].partition("</svg>")[0]
    assert chart.count("<polyline points=") == active


def test_the_order_of_rows_does_not_change_the_page(settings, tmp_path):
    shuffled = replace(settings, lake=str(tmp_path / "lake"), reports=str(tmp_path / "other"))
    for table in TABLES:
        write_rows(shuffled.lake, table, TABLES[table]()[::-1])

    assert Path(write_page(settings, DAY)).read_text() == Path(write_page(shuffled, DAY)).read_text()


def test_the_section_of_a_missing_table_says_so(bare_settings):
    page = Page(write_page(bare_settings, DAY))

    assert "No values are on record" in page["worth"]
    assert "No outcomes are on record" in page["outcomes"]
    assert "No recommendations are on record" in page["offers"]
    assert "There is no map" in page["map"]
    assert "No moves are on record" in page["moves"]
    assert "not on record" in page["number"]
    assert "quality.reconciliation has no rows" in page["quality"]
    assert "clean.events has no rows" in page["quality"]
    assert "no expectation was checked" in page["quality"]
    assert "no longer in the models folder" in page["model"]
    assert "has no row for 2026-03-31" in page["run"]


def test_customers_of_unpublished_small_segments_are_counted(bare_settings):
    write_rows(bare_settings.lake, "marts.segment_profiles", make_profiles()[1:])

    assert "262 customers are in segments too small to publish" in Page(write_page(bare_settings, DAY))["sizes"]


def test_a_day_that_is_not_published_is_one_clear_line(bare_settings):
    with pytest.raises(UserError, match=r"^report: .* no rows on 2026-04-01; run first: shoal publish --day 2026-04-01$"):
        write_page(bare_settings, DAY + timedelta(days=1))
    assert not Path(bare_settings.reports).exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(bare_settings):
    Path(bare_settings.reports).write_text("a file")
    with pytest.raises(UserError, match=r"^report: .*index.html cannot be written .*SHOAL_REPORTS$"):
        write_page(bare_settings, DAY)


def test_a_run_that_dies_while_writing_keeps_the_page_before(bare_settings, monkeypatch):
    path = Path(write_page(bare_settings, DAY))
    before = path.read_text()
    monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    write_rows(bare_settings.lake, "marts.segment_profiles", make_profiles()[1:])

    with pytest.raises(UserError, match="disk full"):
        write_page(bare_settings, DAY)

    assert path.read_text() == before


def test_the_lake_is_only_read(settings):
    before = {table: DeltaTable(f"{settings.lake}/{table.replace('.', '/')}").version() for table in TABLES}
    write_page(settings, DAY)
    assert before == {table: DeltaTable(f"{settings.lake}/{table.replace('.', '/')}").version() for table in TABLES}
