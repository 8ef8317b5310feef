import importlib
import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs import report
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.storage import models

DAY = date(2026, 3, 31)
VERSION = "2026-03-30-0123456789"
MONEY = pa.decimal128(18, 4)
TRAIT = pa.struct(
    [("feature", pa.string()), ("meaning", pa.string())]
    + [(name, pa.float64()) for name in ("typical", "overall", "effect", "low", "high")]
)
COUNTS = pa.map_(pa.string(), pa.int64())

# (name, customers, orders each, net each, typical recency, centre, traits: feature, meaning, typical, overall, effect)
SHOP = {
    1: ("Many orders, high spend", 262, 14.2, 1288.40, 3.0, (3.1, 0.4), [
        ("orders_365d", "orders in the last 365 days", 14.2, 4.1, 1.84),
        ("orders_90d", "orders in the last 90 days", 4.9, 1.3, 1.71),
        ("net_365d", "money after discounts and returns, by their own dates, in the last 365 days", 1288.4, 262.2, 1.66),
        ("recency_days", "days since the last event or order", 4.2, 38.9, -0.71)]),
    2: ("Discount shoppers", 415, 3.9, 121.75, 19.0, (0.2, 2.2), [
        ("discount_share_365d", "discount by gross money, last 365 days", 0.31, 0.07, 1.52),
        ("weekend_order_share_365d", "orders on Saturday or Sunday, last 365 days", 0.44, 0.28, 0.61),
        ("basket_mean_365d", "money per order, last 365 days", 31.2, 55.9, -0.42)]),
    3: ("Browsing a lot, looking only", 701, 0.3, 9.88, 12.5, (-1.6, -0.9), [
        ("views_365d", "products or pages viewed in the last 365 days", 92.1, 51.0, 0.93),
        ("cart_rate_365d", "sessions that filled a cart, last 365 days", 0.04, 0.22, -0.81),
        ("orders_365d", "orders in the last 365 days", 0.3, 4.1, -0.69)]),
    0: ("Dormant", 622, 0.0, 0.0, 512.0, None, []),
}  # fmt: skip


DECISION = "pca: learned does not beat features (wins stability); pca is the better of the plain ones"
JUDGED = {
    "representation": "pca", "k": 3, "stability": 0.9, "common_davies_bouldin": 1.62, "separation": 0.123,
    "separation_low": 0.101, "separation_high": 0.147,
}  # fmt: skip


def rows_of(table: str) -> list[dict]:
    """What the shop's lake holds for DAY, in the contract's columns."""
    known = sum(s[1] for s in SHOP.values())
    net = sum(Decimal(str(s[3])) * s[1] for s in SHOP.values())
    if table == "marts.segment_profiles":
        return [
            {
                "day": DAY, "segment_id": i, "segment_name": name, "n_customers": n, "share": n / known,
                "n_outliers": n // 100, "orders_365d": round(n * orders), "orders_365d_per_customer": orders,
                "net_365d": Decimal(str(each)) * n, "net_365d_per_customer": Decimal(str(each)),
                "net_share": float(Decimal(str(each)) * n / net), "typical_recency_days": recency,
                "traits": [
                    {"feature": f, "meaning": m, "typical": t, "overall": o, "effect": e, "low": e - 0.12, "high": e + 0.12}
                    for f, m, t, o, e in traits
                ],
                "model_version": VERSION,
            }
            for i, (name, n, orders, each, recency, _, traits) in SHOP.items()
        ]  # fmt: skip
    if table == "segments.definitions":
        return [
            {"segment_id": i, "model_version": VERSION, "name": name, "description": f"{n} customers: as they are",
             "center": None if centre is None else [*centre, 0.0], "n_customers": n, "fitted_on": DAY - timedelta(days=1),
             "born_on": DAY - timedelta(days=30), "retired_on": None,
             "silhouette": None if centre is None else 0.1 * i, "davies_bouldin": None if centre is None else 0.5 * i}
            for i, (name, n, _, _, _, centre, _) in SHOP.items()
        ]  # fmt: skip
    if table in ("segments.assignments", "encoded.customers"):
        random, rows = np.random.default_rng(5), []
        for i, (_, n, _, _, _, centre, _) in SHOP.items():
            spread = random.normal(size=(n, 3)) * (0.8, 0.6, 0.3) + (*(centre or (0, 0)), 0.0)
            rows += [
                {"customer_id": f"c{i}-{j}", "day": DAY, "segment_id": i, "vector": row, "model_version": VERSION}
                for j, row in enumerate(spread.tolist())
            ]
        return rows
    return {
        "segments.candidates": [
            {"model_version": VERSION, "k": k, "day": DAY - timedelta(days=1), "n_customers": 1378, "wss": 4000 / k,
             "silhouette": silhouette, "smallest_share": 0.19, "davies_bouldin": 1.4, "stability": 0.9 if silhouette else None,
             "calinski_harabasz": 3520.0, "cluster_stability": [0.97, 0.71] if silhouette else None,
             "refused_by": refused, "chosen": silhouette == 0.478, "method": method, "representation": of}
            for k, silhouette, refused, method, of in (
                (3, 0.478, None, "kmeans", "pca"), (4, 0.431, None, "kmeans", "pca"),
                (5, None, "fewer clusters than asked", "kmeans", "pca"), (3, 0.401, None, "ward", "pca"),
                (6, 0.623, "34.0 % of the customers in no cluster", "hdbscan", "pca"),
                (3, 0.322, "gate: pca is published", "kmeans", "learned"))
        ],
        "marts.segment_moves": [
            {"day": DAY, "previous_day": DAY - timedelta(days=1), "from_segment_id": old, "to_segment_id": new,
             "customers": n, "net_365d": Decimal(n * 100)}
            for old, new, n in ((None, 3, 12), (3, 1, 7), (2, 0, 4), (None, None, 3))
        ],
        "marts.refreshes": [
            {"run_id": "manual__1", "day": DAY, "started_at": datetime(2026, 4, 1, 2, tzinfo=UTC),
             "finished_at": datetime(2026, 4, 1, 2, 3, 9, tzinfo=UTC), "status": "published", "model_version": VERSION,
             "n_customers": known, "n_events": 5120, "n_orders": 98, "n_rejects": 5,
             "table_versions": [("clean.events", 11), ("segments.assignments", 4)], "decision": DECISION,
             "decided_on": DAY - timedelta(days=1),
             "judged": [JUDGED, JUDGED | {"representation": "learned", "separation": 0.05}]}
        ],
        "quality.reconciliation": [
            {"table": table, "day": day, "rows_in": rows_in, "rows_out": rows_in - 9, "rejects": [("malformed", 5)],
             "duplicates": [("same_event", 3), ("same_id", 1)], "difference": 0, "measures": [("amount", Decimal("1234.5"))]}
            for table, day, rows_in in (
                ("clean.events", DAY, 5129), ("clean.events", DAY - timedelta(days=1), 4009),
                ("clean.events", DAY + timedelta(days=1), 70_000), ("clean.orders", DAY, 107))
        ],
        "quality.results": [
            {"table": "clean.events", "day": DAY, "expectation": "expect_column_values_to_not_be_null", "column": "price",
             "severity": "warning", "success": False, "observed": None, "unexpected_count": 159,
             "unexpected_share": 0.031, "description": None},
            {"table": "clean.orders", "day": DAY, "expectation": "expect_table_row_count_to_be_between", "column": None,
             "severity": "critical", "success": True, "observed": "98", "unexpected_count": None, "unexpected_share": None,
             "description": None},
            {"table": "clean.orders", "day": DAY, "expectation": "expect_column_sum_to_be_between", "column": "net_amount",
             "severity": "critical", "success": False, "observed": "-1.5", "unexpected_count": None,
             "unexpected_share": None, "description": "the day's net is not negative"},
            *({"table": "features.customers", "day": DAY, "expectation": "expect_column_values_to_be_between", "column": column,
               "severity": "warning", "success": True, "observed": observed, "unexpected_count": None,
               "unexpected_share": None, "description": None}
              for column, observed in {"psi_views_7d": "0.0831", "psi_orders_7d": "0.2212", "psi_net_7d": "not known",
                                       "psi_reconstruction_error": "0.0442", "out_of_range": "0.00312"}.items()),
        ],
        "clean.events": [{"day": DAY, "bot_rule": "rate" if i % 20 == 0 else None} for i in range(400)],
    }[table]  # fmt: skip


TYPES = {
    "net_365d": MONEY, "net_365d_per_customer": MONEY, "traits": pa.list_(TRAIT), "rejects": COUNTS, "duplicates": COUNTS,
    "measures": pa.map_(pa.string(), MONEY), "table_versions": COUNTS, "segment_id": pa.int32(), "k": pa.int32(),
    "from_segment_id": pa.int32(), "to_segment_id": pa.int32(), "vector": pa.list_(pa.float32()),
    "center": pa.list_(pa.float32()), "retired_on": pa.date32(), "davies_bouldin": pa.float64(), "stability": pa.float64(),
    "bot_rule": pa.string(), "column": pa.string(), "unexpected_count": pa.int64(),
    "observed": pa.string(), "description": pa.string(), "unexpected_share": pa.float64(), "refused_by": pa.string(),
    "separation": pa.float64(), "separation_low": pa.float64(), "separation_high": pa.float64(),
    "common_davies_bouldin": pa.float64(),
}  # fmt: skip
TABLES = (
    "marts.segment_profiles", "segments.definitions", "segments.assignments", "encoded.customers", "segments.candidates",
    "marts.segment_moves", "marts.refreshes", "quality.reconciliation", "quality.results", "clean.events",
)  # fmt: skip


def put(root: str, table: str, rows: list[dict]) -> None:
    """Make `rows` the table."""
    columns = {name: pa.array([row[name] for row in rows], TYPES.get(name)) for name in rows[0] if name in _columns(table, rows)}
    write_deltalake(f"{root}/{table.replace('.', '/')}", pa.table(columns), mode="overwrite", schema_mode="overwrite")


def _columns(table: str, rows: list[dict]) -> set[str]:
    leave_out = {"encoded.customers": {"segment_id"}, "segments.assignments": {"vector"}}.get(table, set())
    return set(rows[0]) - leave_out


def settings_at(root: Path) -> Settings:
    return Settings(str(root / "lake"), str(root / "models"), str(root / "reports"), "sample", str(root / "input"))


def put_model(settings: Settings) -> None:
    facts = {
        "day": "2026-03-30", "features": ["orders_365d", "net_365d"], "customers": {"train": 965, "validation": 207, "test": 206},
        "sizes": {"latent": 3}, "test_error": 0.0412, "test_error_pca": 0.0533, "better_than_pca": True, "best_epoch": 31,
        "trustworthiness": 0.957, "trustworthiness_pca": 0.941,
        "epochs": [{"epoch": 0}, {"epoch": 41}], "device": "cpu",
        "left_out": [{"name": "views_30d", "reason": "constant", "share": 0.998},
                     {"name": "gross_365d", "reason": "duplicate", "of": "net_365d", "r": 0.9912}],
    }  # fmt: skip
    models.save(settings.models, VERSION, lambda folder: (folder / "meta.json").write_text(json.dumps(facts)))
    models.promote(settings.models, VERSION, DAY - timedelta(days=1))


@pytest.mark.parametrize("table", sorted({*TABLES} - {"quality.results"}))
def test_the_tables_of_these_tests_are_those_of_the_contract(table):
    module = "jobs.reconciliation" if table == "quality.reconciliation" else f"jobs.{table}"
    schema = importlib.import_module(module).SCHEMA

    assert _columns(table, rows_of(table)) <= set(re.findall(r"^\s*`?(\w+)`? [A-Z]", schema, re.MULTILINE))


@pytest.fixture(scope="module")
def _made(tmp_path_factory) -> Settings:
    settings = settings_at(tmp_path_factory.mktemp("report"))
    for table in TABLES:
        put(settings.lake, table, rows_of(table))
    put_model(settings)
    return settings


@pytest.fixture
def shop(_made, tmp_path) -> Settings:
    """The shop's lake, for reading, and a reports folder of the test's own."""
    return replace(_made, reports=str(tmp_path / "reports"))


@pytest.fixture
def bare(tmp_path) -> Settings:
    """A lake with nothing but profiles."""
    settings = settings_at(tmp_path)
    put(settings.lake, "marts.segment_profiles", rows_of("marts.segment_profiles"))
    return settings


class Page(HTMLParser):
    """The page's words by section id, its links and its tags."""

    def __init__(self, path: str):
        super().__init__()
        self.at, self.words, self.links, self.open, self.hidden = "head", {"head": ""}, [], [], False
        self.source = Path(path).read_text()
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "section":
            self.at = attrs["id"]
            self.words[self.at] = ""
        self.hidden = tag == "style"
        self.links += [v for k, v in attrs.items() if k in ("src", "href", "data", "action")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.hidden = False

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        if not self.hidden:
            self.words[self.at] += f" {data.strip()} "

    def __getitem__(self, section: str) -> str:
        return re.sub(r" ([,;:.)])|([(]) ", r"\1\2", " ".join(self.words[section].split()))


def test_the_page_says_what_the_tables_say(shop):
    page = Page(report.run(shop, DAY))

    assert page.open == []
    assert "Customers known 2,000 Active 1,378 622 dormant, 31.1 % Segments 3" in page["head"]
    assert "Net, 365 days 395,013 GBP" in page["head"]
    assert "1 Many orders, high spend 262 19.0 % 337,561 85.5 % 1,288.40 14.20 3 days" in page["sizes"]
    assert page["sizes"].endswith("0 Dormant 622 – 0 0.0 % 0.00 0.00 512 days")
    assert "money after discounts and returns, by their own dates, in the last 365 days 1,288.40 GBP" in page["segments"]
    assert "When last clustered, on 2026-03-30: 262 customers: as they are." in page["segments"]
    assert "Drawn are" in page["map"]
    assert "of 1,378 active customers" in page["map"]
    assert "26 customers are in another segment than on 2026-03-30" in page["moves"]
    assert "; 3 of them in moves of too few customers to be told apart." in page["moves"]
    assert "no longer known" not in page["moves"]
    assert "· new customers 3 Browsing a lot, looking only 12 1,200" in page["moves"]
    assert "4 customers 7 customers 12 customers Discount shoppers 4 Browsing" in page["moves"]
    assert "One day is published so far" in page["time"]
    assert "3 0.478 0.9 0.71 19.0 % 1.4 3,520 1,333 chosen" in page["number"]
    n = {i: SHOP[i][1] for i in (1, 2, 3)}
    silhouette = sum(0.1 * i * n[i] for i in n) / sum(n.values())
    assert (
        f"fitted on all {sum(n.values()):,} customers active on 2026-03-30: silhouette {silhouette:.3f}, Davies-Bouldin 1. "
        f"Least set apart is segment 1, {SHOP[1][0]}: silhouette 0.100."
    ) in page["number"]
    assert "5 – – – 19.0 % 1.4 3,520 800 refused: fewer clusters than asked" in page["number"]
    assert "ward 3 0.401 0.9 19.0 % 1.4 3,520" in page["number"]
    assert "hdbscan 6 0.623 0.9 19.0 % 1.4 3,520 34.0 % of the customers in no cluster" in page["number"]
    assert "0.322" not in page["number"]  # of another representation
    assert "On 2026-03-30: principal components. Learned does not beat features (wins stability); pca is" in page["gate"]
    assert "principal components 3 0.9 12.3 % 10.1 % to 14.7 % 1.62 published" in page["gate"]
    assert "what was learned 3 0.9 5.0 % 10.1 % to 14.7 % 1.62" in page["gate"]
    assert "5.0 % of the 400 events of the day are flagged as robots (rate 20, 5.0 %)" in page["quality"]
    assert "0 visitors and 0 e-mail addresses are shared by too many customers" in page["quality"]
    assert "0.0412, against 0.0533" in page["model"]
    assert "0.957, against 0.941" in page["model"]
    assert "0.04 of the errors by which customers are restored, 0.22 of orders_7d, 0.08 of views_7d, which" in page["model"]
    assert "0.3 % of values lie outside" in page["model"]
    assert "Published since 2026-03-30" in page["model"]
    assert "Left out views_30d (the same for 99.8 %), gross_365d (goes along with net_365d, r 0.991)" in page["model"]
    assert "manual__1, published" in page["run"]
    assert "2026-04-01 02:03:09 UTC" in page["run"]
    assert "segments.assignments 4" in page["run"]


def test_rows_are_accounted_for_up_to_the_day_and_not_after(shop):
    words = Page(report.run(shop, DAY))["quality"]

    assert "clean.events 5,129 5,120 5 4 0 9,138 9,120 10 8 0" in words
    assert "clean.events repeated same event 3 6" in words
    assert "over the 2 days" in words
    assert "clean.events amount 1,234.50" in words


def test_failed_expectations_are_listed(shop):
    words = Page(report.run(shop, DAY))["quality"]

    assert "2 failed, 6 passed, on 3 tables" in words
    assert "clean.events price expect column values to not be null warning – 159 3.1 %" in words
    assert words.index("clean.orders net_amount the day's net is not negative critical -1.5 – –") < words.index("price")
    assert "row count" not in words


def test_the_same_feature_over_two_windows_is_one_trait(shop):
    words = Page(report.run(shop, DAY))["segments"]

    assert "orders in the last 365 days 14.2" in words
    assert "orders in the last 90 days" not in words
    assert "days since the last event or order 4.2 days" in words


def test_an_extreme_effect_does_not_flatten_the_others():
    extreme = {"feature": "orders_7d", "meaning": "", "typical": 1.0, "overall": 0.0, "effect": 9.7, "low": 9.0, "high": 10.4}
    weak = extreme | {"effect": -1.5, "low": -1.8, "high": -1.2}
    profile = rows_of("marts.segment_profiles")[0] | {"traits": [extreme, weak | {"feature": "net_7d"}]}

    first, second = report._segments([profile], 262, [], "GBP")[0]["traits"]

    assert first["bar"] == (0.5, 0.5)
    assert second["bar"] == (0.25, 0.25)
    assert second["whisker"] == pytest.approx((0.2, 0.1))
    assert (first["effect"], second["effect"]) == ("+9.70", "-1.50")


def test_the_page_needs_no_network_and_runs_nothing(shop):
    page = Page(report.run(shop, DAY))

    assert {link for link in page.links if not link.startswith("#")} == set()
    assert "<script" not in page.source
    assert not re.search(r"@import|url\(|https?://", page.source)


def test_names_from_data_are_escaped(bare):
    rows = rows_of("marts.segment_profiles")
    rows[0]["segment_name"] = "<b>Tom & 'Jerry'</b>"
    put(bare.lake, "marts.segment_profiles", rows)

    page = Page(report.run(bare, DAY))

    assert "<b>Tom" not in page.source
    assert "<b>Tom & 'Jerry'</b>" in page["sizes"]


def test_sizes_of_earlier_days_are_drawn_and_those_of_later_ones_are_not(shop, tmp_path):
    earlier = replace(shop, lake=str(tmp_path / "lake"), reports=str(tmp_path / "other"))
    for table in TABLES:
        put(earlier.lake, table, rows_of(table))
    profiles = rows_of("marts.segment_profiles")
    days = [DAY - timedelta(days=40), DAY + timedelta(days=1)]
    put(earlier.lake, "marts.segment_profiles", profiles + [p | {"day": day} for p in profiles[:2] for day in days])

    page = Page(report.run(earlier, DAY))

    assert f"{DAY - timedelta(days=40)} {DAY}" in page["time"]
    assert str(DAY + timedelta(days=1)) not in page["time"]
    active = len(profiles) - 1
    assert page.source.count("<polyline points=") == active + 2  # of the number of segments


def test_the_same_lake_gives_the_same_page_whatever_the_order_of_its_rows(shop, tmp_path):
    shuffled = replace(shop, lake=str(tmp_path / "lake"), reports=str(tmp_path / "other"))
    for table in TABLES:
        put(shuffled.lake, table, rows_of(table)[::-1])

    assert Path(report.run(shop, DAY)).read_text() == Path(report.run(shuffled, DAY)).read_text()


def test_the_map_samples_the_same_customers_in_any_order(monkeypatch):
    monkeypatch.setattr(report, "MAP_POINTS", 10)
    ids = [f"customer {i}" for i in range(1000)]

    chosen = {ids[i] for i in report._sample(ids)}

    assert len(chosen) == 10
    assert chosen == {ids[::-1][i] for i in report._sample(ids[::-1])}


def test_the_map_shows_the_plane_of_the_largest_spread():
    random = np.random.default_rng(1)
    vectors = random.normal(size=(500, 4)) * (0.1, 5.0, 0.2, 3.0) + 7

    mean, axes, explained = report._principal_axes(vectors)

    assert np.abs(axes).argmax(axis=0).tolist() == [1, 3]
    assert (axes[[1, 3], [0, 1]] > 0.99).all()
    assert mean == pytest.approx(vectors.mean(axis=0))
    assert 0.99 < explained < 1


def test_tables_that_are_missing_leave_a_sentence(bare):
    page = Page(report.run(bare, DAY))

    assert "There is no map" in page["map"]
    assert "No moves are on record" in page["moves"]
    assert "not on record" in page["number"]
    assert "quality.reconciliation has no rows" in page["quality"]
    assert "clean.events has no rows" in page["quality"]
    assert "no expectation was checked" in page["quality"]
    assert "no longer in the models folder" in page["model"]
    assert "has no row for 2026-03-31" in page["run"]


def test_unpublished_small_segments_are_mentioned(bare):
    put(bare.lake, "marts.segment_profiles", rows_of("marts.segment_profiles")[1:])

    assert "262 customers are in segments too small to publish" in Page(report.run(bare, DAY))["sizes"]


def test_a_day_that_is_not_published_is_one_clear_line(bare):
    with pytest.raises(UserError, match=r"^report: .* no rows on 2026-04-01; run first: shoal publish --day 2026-04-01$"):
        report.run(bare, DAY + timedelta(days=1))
    assert not Path(bare.reports).exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(bare):
    Path(bare.reports).write_text("a file")
    with pytest.raises(UserError, match=r"^report: .*index.html cannot be written .*SHOAL_REPORTS$"):
        report.run(bare, DAY)


def test_a_run_that_dies_while_writing_leaves_the_page_before(bare, monkeypatch):
    path = Path(report.run(bare, DAY))
    before = path.read_text()
    monkeypatch.setattr(report.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    put(bare.lake, "marts.segment_profiles", rows_of("marts.segment_profiles")[1:])

    with pytest.raises(UserError, match="disk full"):
        report.run(bare, DAY)

    assert path.read_text() == before


def test_the_segments_of_the_latest_day_as_a_table(bare):
    older = [row | {"day": DAY - timedelta(days=1), "n_customers": 1} for row in rows_of("marts.segment_profiles")]
    put(bare.lake, "marts.segment_profiles", older + rows_of("marts.segment_profiles"))
    path = report.run(bare, DAY)

    lines = report.segments_as_text(bare).splitlines()

    assert re.split(r"\s{2,}", lines[0].strip()) == [
        "segment", "name", "customers", "share", "orders, 365 days", "net, 365 days, GBP", "typical recency",
    ]  # fmt: skip
    assert [re.split(r"\s{2,}", line.strip()) for line in lines[2:6]] == [
        ["1", "Many orders, high spend", "262", "13.1 %", "3,720", "337,561", "3 days"],
        ["2", "Discount shoppers", "415", "20.8 %", "1,618", "50,526", "19 days"],
        ["3", "Browsing a lot, looking only", "701", "35.0 %", "210", "6,926", "12.5 days"],
        ["0", "Dormant", "622", "31.1 %", "0", "0", "512 days"],
    ]
    assert len({len(line) for line in lines[:6]}) == 1
    assert lines[7:] == ["as of  2026-03-31", f"model  {VERSION}", f"report {path}"]


def test_segments_before_the_first_refresh_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"^lake: table marts.segment_profiles does not exist"):
        report.segments_as_text(settings_at(tmp_path))


def test_the_lake_is_only_read(shop):
    before = {table: DeltaTable(f"{shop.lake}/{table.replace('.', '/')}").version() for table in TABLES}
    report.run(shop, DAY)
    assert before == {table: DeltaTable(f"{shop.lake}/{table.replace('.', '/')}").version() for table in TABLES}


def test_the_account_of_days_is_a_table_by_table_and_by_rule(tmp_path):
    settings = settings_at(tmp_path)
    put(settings.lake, "quality.reconciliation", rows_of("quality.reconciliation"))
    text, wrong = report.reconciliation_as_text(settings, [DAY - timedelta(days=1), DAY])
    lines = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    assert lines[0] == ["2026-03-30 to 2026-03-31, days with rows: 2"]
    assert lines[2] == ["table", "rows in", "rows out", "refused", "repeated", "unaccounted"]
    assert lines[4:6] == [["clean.events", "9,138", "9,120", "10", "8", "0"], ["clean.orders", "107", "98", "5", "4", "0"]]
    assert ["clean.events", "refused", "malformed", "10", "–"] in lines
    assert ["clean.orders", "repeated", "same_id", "1", "–"] in lines
    assert wrong == []


def test_the_account_of_money_shows_what_came_in_and_what_became_of_it(tmp_path):
    """An order of 10 with 1 off, of which 4 come back the day after, and a gift card of 50 that is no sale."""
    settings, eve = settings_at(tmp_path), DAY - timedelta(days=1)

    def account(day, **measures):
        empty = {"rows_in": 1, "rows_out": 1, "rejects": [], "duplicates": [], "difference": 0}
        return {"table": "clean.orders", "day": day, **empty, "measures": [(n, Decimal(v)) for n, v in measures.items()]}

    def figures():
        text, wrong = report.reconciliation_as_text(settings, [eve, DAY])
        return [re.split(r"  +", line.strip()) for line in text.splitlines()], wrong

    gift = account(eve, amount=59, net=9, refused_gift_card=50) | {"rejects": [("gift_card", 1)]}
    put(settings.lake, "quality.reconciliation", [gift, account(DAY, amount=-4)])
    line = {"day": eve, "gross_amount": 10, "discount_amount": 1, "returned_amount": 4, "net_amount": 5}
    back = {"day": DAY, "order_day": eve, "amount": 4}
    put(settings.lake, "clean.orders", [{k: v if k == "day" else Decimal(v) for k, v in line.items()}])
    put(settings.lake, "clean.returns", [back | {"amount": Decimal(4)}])
    lines, wrong = figures()
    assert ["clean.orders", "refused", "gift_card", "1", "50.00"] in lines
    assert lines[-5:] == [
        ["day", "came in", "refused", "repeated", "gross", "discounts", "returns", "net", "given back"],
        lines[-4],
        ["2026-03-30", "59.00", "50.00", "0.00", "10.00", "1.00", "4.00", "5.00", "0.00"],
        ["2026-03-31", "-4.00", "0.00", "0.00", "0.00", "0.00", "0.00", "0.00", "4.00"],
        ["in all", "55.00", "50.00", "0.00", "10.00", "1.00", "4.00", "5.00", "4.00"],
    ]
    assert wrong == []
    put(settings.lake, "clean.returns", [back | {"amount": Decimal(3)}])
    assert figures()[1] == ["clean.orders, day 2026-03-30, money"]


def test_rows_unaccounted_for_and_a_day_that_was_not_cleaned_are_named(tmp_path):
    settings = settings_at(tmp_path)
    rows = rows_of("quality.reconciliation")
    put(settings.lake, "quality.reconciliation", [rows[0] | {"difference": 2}, rows[1] | {"difference": -2}])
    _, wrong = report.reconciliation_as_text(settings, [DAY - timedelta(days=1), DAY])
    assert wrong == ["clean.events, day 2026-03-30", "clean.events, day 2026-03-31"]
    with pytest.raises(UserError, match="no rows for 2025-01-01; run first: shoal clean --day 2025-01-01"):
        report.reconciliation_as_text(settings, [date(2025, 1, 1)])
