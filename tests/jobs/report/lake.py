"""A small published lake for the tests of the report: the rows of each table that it reads, written without Spark."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from jobs.config.settings import Settings
from jobs.storage import models

DAY = date(2026, 3, 31)
EVE = DAY - timedelta(days=1)
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
N_CUSTOMERS = sum(n for _, n, *_ in SHOP.values())

DECISION = "pca: The learned embedding does not beat raw features (better in: stability); the better baseline is PCA"
EVALUATED = {
    "representation": "pca", "k": 3, "stability": 0.9, "common_davies_bouldin": 1.62, "separation": 0.123,
    "separation_low": 0.101, "separation_high": 0.147,
}  # fmt: skip


def make_profiles() -> list[dict]:
    net = sum(Decimal(str(s[3])) * s[1] for s in SHOP.values())
    return [
        {
            "day": DAY, "segment_id": i, "segment_name": name, "n_customers": n, "share": n / N_CUSTOMERS,
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


def make_definitions() -> list[dict]:
    return [
        {"segment_id": i, "model_version": VERSION, "name": name, "description": f"{n} customers: as they are",
         "center": None if centre is None else [*centre, 0.0], "n_customers": n, "fitted_on": EVE,
         "born_on": DAY - timedelta(days=30), "retired_on": None,
         "silhouette": None if centre is None else 0.1 * i, "davies_bouldin": None if centre is None else 0.5 * i}
        for i, (name, n, _, _, _, centre, _) in SHOP.items()
    ]  # fmt: skip


def make_customers() -> list[dict]:
    """Return the rows of encoded.customers and of segments.assignments in one."""
    random, rows = np.random.default_rng(5), []
    for i, (_, n, _, _, _, centre, _) in SHOP.items():
        vectors = random.normal(size=(n, 3)) * (0.8, 0.6, 0.3) + (*(centre or (0, 0)), 0.0)
        rows += [
            {"customer_id": f"c{i}-{j}", "day": DAY, "segment_id": i, "vector": vector, "model_version": VERSION}
            for j, vector in enumerate(vectors.tolist())
        ]
    return rows


def make_candidates() -> list[dict]:
    return [
        {"model_version": VERSION, "k": k, "day": EVE, "n_customers": 1378, "wss": 4000 / k,
         "silhouette": silhouette, "smallest_share": 0.19, "davies_bouldin": 1.4, "stability": 0.9 if silhouette else None,
         "calinski_harabasz": 3520.0, "cluster_stability": [0.97, 0.71] if silhouette else None,
         "refused_by": refused, "chosen": silhouette == 0.478, "method": method, "representation": representation}
        for k, silhouette, refused, method, representation in (
            (3, 0.478, None, "kmeans", "pca"), (4, 0.431, None, "kmeans", "pca"),
            (5, None, "fewer clusters than asked", "kmeans", "pca"), (3, 0.401, None, "ward", "pca"),
            (6, 0.623, "34.0 % of the customers in no cluster", "hdbscan", "pca"),
            (3, 0.322, "gate: pca is published", "kmeans", "learned"))
    ]  # fmt: skip


def make_group_candidates() -> list[dict]:
    """The rows of two learned embeddings with groups of inputs: texts add to the separation, all groups do not for certain."""
    return [
        make_candidates()[-1] | {"representation": name, "separation": 0.1 + gain, "separation_gain": gain,
                                 "separation_gain_low": low, "separation_gain_high": 0.04}
        for name, gain, low in (("learned_text", 0.021, 0.004), ("learned_all", 0.013, -0.012))
    ]  # fmt: skip


def make_moves() -> list[dict]:
    return [
        {"day": DAY, "previous_day": EVE, "from_segment_id": old, "to_segment_id": new,
         "customers": n, "net_365d": Decimal(n * 100)}
        for old, new, n in ((None, 3, 12), (3, 1, 7), (2, 0, 4), (None, None, 3))
    ]  # fmt: skip


def make_refreshes() -> list[dict]:
    return [
        {"run_id": "manual__1", "day": DAY, "omissions": ["scores.recommendations: nobody bought a product"],
         "started_at": datetime(2026, 4, 1, 2, tzinfo=UTC),
         "finished_at": datetime(2026, 4, 1, 2, 3, 9, tzinfo=UTC), "status": "published", "model_version": VERSION,
         "n_customers": N_CUSTOMERS, "n_events": 5120, "n_orders": 98, "n_rejects": 5,
         "table_versions": [("clean.events", 11), ("segments.assignments", 4)], "decision": DECISION,
         "decided_on": EVE,
         "judged": [EVALUATED, EVALUATED | {"representation": "learned", "separation": 0.05}]}
    ]  # fmt: skip


def make_reconciliation() -> list[dict]:
    return [
        {"table": table, "day": day, "rows_in": rows_in, "rows_out": rows_in - 9, "rejects": [("malformed", 5)],
         "duplicates": [("same_event", 3), ("same_id", 1)], "difference": 0, "measures": [("amount", Decimal("1234.5"))]}
        for table, day, rows_in in (
            ("clean.events", DAY, 5129), ("clean.events", EVE, 4009),
            ("clean.events", DAY + timedelta(days=1), 70_000), ("clean.orders", DAY, 107))
    ]  # fmt: skip


def make_results() -> list[dict]:
    result = {"day": DAY, "column": None, "severity": "warning", "success": True, "observed": None, "unexpected_count": None,
              "unexpected_share": None, "description": None}  # fmt: skip
    drift = {"psi_views_7d": "0.0831", "psi_orders_7d": "0.2212", "psi_net_7d": "not known",
             "psi_reconstruction_error": "0.0442", "out_of_range": "0.00312"}  # fmt: skip
    return [
        result | {"table": "clean.events", "expectation": "expect_column_values_to_not_be_null", "column": "price",
                  "success": False, "unexpected_count": 159, "unexpected_share": 0.031},
        result | {"table": "clean.orders", "expectation": "expect_table_row_count_to_be_between", "severity": "critical",
                  "observed": "98"},
        result | {"table": "clean.orders", "expectation": "expect_column_sum_to_be_between", "column": "net_amount",
                  "severity": "critical", "success": False, "observed": "-1.5",
                  "description": "the day's net is not negative"},
        *(result | {"table": "features.customers", "expectation": "expect_column_values_to_be_between", "column": column,
                    "observed": observed}
          for column, observed in drift.items()),
    ]  # fmt: skip


def make_events() -> list[dict]:
    return [{"day": DAY, "bot_rule": "rate" if i % 20 == 0 else None} for i in range(400)]


def make_values() -> list[dict]:
    """The customers of the active segments, each expected to spend 100 a segment number."""
    return [
        {"customer_id": c["customer_id"], "day": DAY, "model_version": VERSION, "method": "mbg_nbd", "p_alive": 0.5,
         "expected_orders_365d": 2.0, "expected_net_365d": Decimal(100 * c["segment_id"])}
        for c in make_customers() if c["segment_id"]
    ]  # fmt: skip


def make_outcomes() -> list[dict]:
    """The customers of the active segments, each the more likely to churn the higher the number of the segment."""
    return [
        {"customer_id": c["customer_id"], "day": DAY, "outcome": "churn", "window_days": 90, "model_version": VERSION,
         "probability": 0.2 * c["segment_id"]}
        for c in make_customers() if c["segment_id"]
    ]  # fmt: skip


def make_ablation() -> list[dict]:
    """What two groups add to churn; the rows of an earlier fit say something else."""
    row = {"day": EVE, "outcome": "churn", "method": "logistic_regression", "n_customers": 713, "n_with_group": 650,
           "roc_auc": 0.73, "model_version": VERSION}  # fmt: skip
    text = row | {"input_group": "text", "gain": 0.0312, "gain_low": 0.0101, "gain_high": 0.0523}
    all_groups = row | {"input_group": "all", "gain": -0.0212, "gain_low": -0.0401, "gain_high": -0.0023}
    return [text, all_groups, text | {"model_version": "v0", "gain": 0.9}]


def make_recommendations() -> list[dict]:
    """Two products for each of a hundred customers, the first by ALS."""
    return [
        {"customer_id": c["customer_id"], "day": DAY, "rank": rank, "product_id": f"p{rank}", "score": 1 / rank,
         "method": "als" if rank == 1 else "segment_popularity", "model_version": VERSION}
        for c in make_customers()[:100] for rank in (1, 2)
    ]  # fmt: skip


def make_effects() -> list[dict]:
    """A campaign that had an effect, and one for whom there were not enough customers."""
    spring = {
        "day": DAY, "campaign": "spring", "segment_id": None, "segment_name": None, "metric": "net", "first_day": EVE,
        "last_day": DAY, "status": "effect", "n_treated": 800, "n_holdout": 200, "expected_holdout": 199.5, "mismatch_p": 0.9,
        "mean_treated": 55.5, "mean_holdout": 50.25, "difference": 5.25, "low": 1.5, "high": 9.0, "relative": 0.104,
        "relative_low": 0.03, "relative_high": 0.18, "p_corrected": 0.006, "smallest_effect": 0.2, "detectable_share": 0.12,
        "needed_customers": 360, "uplift_method": "two_model", "qini": 0.5, "qini_low": 0.25, "qini_high": 0.75,
    }  # fmt: skip
    claims = ("mean_treated", "mean_holdout", "difference", "low", "high", "relative", "relative_low", "relative_high")
    unknown = dict.fromkeys((*claims, "p_corrected", "uplift_method", "qini", "qini_low", "qini_high"))
    small = spring | {"segment_id": 1, "segment_name": SHOP[1][0], "n_treated": 210, "n_holdout": 52, "status": "too_few"}
    tiny = {"campaign": "tiny", "status": "too_few", "needed_customers": 25_000}
    return [spring, small | unknown, spring | unknown | tiny]


# The rows of each table for DAY, in the contract's columns.
TABLES = {
    "marts.segment_profiles": make_profiles, "segments.definitions": make_definitions,
    "segments.assignments": make_customers, "encoded.customers": make_customers, "segments.candidates": make_candidates,
    "marts.segment_moves": make_moves, "marts.refreshes": make_refreshes, "quality.reconciliation": make_reconciliation,
    "quality.results": make_results, "clean.events": make_events, "scores.customer_values": make_values,
    "scores.customer_outcomes": make_outcomes, "scores.ablation": make_ablation, "scores.recommendations": make_recommendations,
    "marts.effects": make_effects,
}  # fmt: skip
TYPES = {
    "net_365d": MONEY, "net_365d_per_customer": MONEY, "traits": pa.list_(TRAIT), "rejects": COUNTS, "duplicates": COUNTS,
    "measures": pa.map_(pa.string(), MONEY), "table_versions": COUNTS, "segment_id": pa.int32(), "k": pa.int32(),
    "from_segment_id": pa.int32(), "to_segment_id": pa.int32(), "vector": pa.list_(pa.float32()),
    "center": pa.list_(pa.float32()), "retired_on": pa.date32(), "davies_bouldin": pa.float64(), "stability": pa.float64(),
    "bot_rule": pa.string(), "column": pa.string(), "unexpected_count": pa.int64(),
    "observed": pa.string(), "description": pa.string(), "unexpected_share": pa.float64(), "refused_by": pa.string(),
    "separation": pa.float64(), "separation_low": pa.float64(), "separation_high": pa.float64(),
    "common_davies_bouldin": pa.float64(), "expected_net_365d": MONEY,
}  # fmt: skip


def write_rows(root: str, table: str, rows: list[dict]) -> None:
    """Replace the table with `rows`."""
    columns = {
        name: pa.array([row[name] for row in rows], TYPES.get(name)) for name in rows[0] if name in column_names(table, rows)
    }
    write_deltalake(f"{root}/{table.replace('.', '/')}", pa.table(columns), mode="overwrite", schema_mode="overwrite")


def column_names(table: str, rows: list[dict]) -> set[str]:
    """Return the columns of these rows that the table has."""
    omitted = {"encoded.customers": {"segment_id"}, "segments.assignments": {"vector"}}.get(table, set())
    return set(rows[0]) - omitted


def make_settings(root: Path) -> Settings:
    """Return settings with lake, models and reports below `root`."""
    return Settings(str(root / "lake"), str(root / "models"), str(root / "reports"), "sample", str(root / "input"))


def write_model(settings: Settings) -> None:
    """Write the facts of the model VERSION and make it the champion."""
    meta = {
        "day": "2026-03-30", "features": ["orders_365d", "net_365d"], "customers": {"train": 965, "validation": 207, "test": 206},
        "sizes": {"latent": 3}, "test_error": 0.0412, "test_error_pca": 0.0533, "better_than_pca": True, "best_epoch": 31,
        "trustworthiness": 0.957, "trustworthiness_pca": 0.941,
        "epochs": [{"epoch": 0}, {"epoch": 41}], "device": "cpu",
        "left_out": [{"name": "views_30d", "reason": "constant", "share": 0.998},
                     {"name": "gross_365d", "reason": "duplicate", "of": "net_365d", "r": 0.9912}],
    }  # fmt: skip
    models.save(settings.models, VERSION, lambda folder: (folder / "meta.json").write_text(json.dumps(meta)))
    models.promote(settings.models, VERSION, EVE)


def write_value_model(settings: Settings) -> None:
    """Write the facts of the model of values."""
    figures = {"orders_deviance": 1.25, "net_deviance": 51.5, "net_deviance_interval": [46.5, 60.5], "net_error": 565.25}
    meta = {
        "reason": "mbg_nbd is better than last_period and segment_mean in orders and money",
        "backtest": {"day": "2025-12-31", "figures": {
            "mbg_nbd": figures | {"deciles": [(2356.0, 4263.0), (54.0, 121.0)]},
            "last_period": figures | {"net_deviance": 525.0, "deciles": []},
        }},
    }  # fmt: skip
    models.save(
        settings.models, VERSION, lambda folder: (folder / "meta.json").write_text(json.dumps(meta)), models.CUSTOMER_VALUES
    )


def write_outcome_models(settings: Settings) -> None:
    """Write the facts of the models of outcomes."""
    measures = ("log_loss", "roc_auc", "pr_auc", "brier", "precision", "recall", "f1", "accuracy")
    churn = {
        "method": "logistic_regression", "days": {"fit": ["2025-07-04"], "calibration": ["2025-10-02"], "test": ["2025-12-31"]},
        "customers": {"test": 713}, "prevalence": 0.348, "refused": ["leaves_next_week"],
        "figures": {name: {m: [value, value - 0.1, value + 0.1] for m in measures}
                    for name, value in (("prevalence", 0.686), ("logistic_regression", 0.578))},
        "roc": {"recency": [[0, 0], [1, 1]], "logistic_regression": [[0, 0], [0.25, 0.75], [1, 1]]},
        "calibration": [[0.1, 0.12, 70], [0.6, 0.5, 71]],
        "top_features": [{"feature": "order_recency_days", "weight": 1.5, "raises": True}],
    }  # fmt: skip
    meta = json.dumps({"outcomes": {"churn": churn}})
    models.save(settings.models, VERSION, lambda folder: (folder / "meta.json").write_text(meta), models.CUSTOMER_OUTCOMES)
    models.promote(settings.models, VERSION, EVE, family=models.CUSTOMER_OUTCOMES)


def write_recommender(settings: Settings) -> None:
    """Write the facts of the recommender, and the products of one segment."""
    figures = {"ndcg": 0.2892, "ndcg_interval": [0.275, 0.301], "precision": 0.248, "recall": 0.135, "average_precision": 0.179,
               "coverage": 0.412, "novelty": 5.25}  # fmt: skip
    meta = {
        "day": "2026-03-30", "method": "als", "reason": "als is better than popularity in NDCG",
        "backtest": {"day": "2026-02-28", "customers": 1372, "figures": {"popularity": figures | {"ndcg": 0.14}, "als": figures}},
    }  # fmt: skip
    tea = {"product_id": "tea-1", "name": "Green tea", "buyers": 40, "lift": 3.25}
    pair = {"product_ids": ["tea-1", "pot-1"], "names": ["Green tea", None], "buyers": 20, "lift": 7.5}
    segments = [{"segment_id": 1, "buyers": 200, "products": [tea], "pairs": [pair]}]

    def write(folder: Path) -> None:
        (folder / "meta.json").write_text(json.dumps(meta))
        (folder / "segments.json").write_text(json.dumps(segments))

    models.save(settings.models, VERSION, write, models.RECOMMENDATIONS)


def write_lake(settings: Settings) -> None:
    """Write all tables and the model."""
    for table, make_rows in TABLES.items():
        write_rows(settings.lake, table, make_rows())
    write_model(settings)
    write_value_model(settings)
    write_outcome_models(settings)
    write_recommender(settings)
