"""The order of the day: every step and every table by name. Standard library only, so that any environment may read it."""

from typing import NamedTuple


class Step(NamedTuple):
    """One task of the DAG and one process: `shoal <command> --day D`."""

    name: str
    command: tuple[str, ...]
    environment: str  # "spark": of the jobs, on the engine that is set; "train": on the GPU queue; "plain": one process
    about: str


STEPS = (
    Step("land", ("land",), "spark", "Source files become bronze tables, as received, each file once."),
    Step(
        "clean",
        ("clean",),
        "spark",
        "Typed, deduplicated, in sessions and in the home currency; what is refused is kept.",
    ),
    Step("check_clean", ("check", "clean"), "spark", "Great Expectations on clean.*; a critical failure stops the day."),
    Step("features", ("features",), "spark", "Per customer and day, then one row per customer as of the day."),
    Step("check_features", ("check", "features"), "spark", "Great Expectations on features.*."),
    Step("train", ("train",), "train", "The autoencoder and the networks of outcomes, when they are due; otherwise skipped."),
    Step("encode", ("encode",), "spark", "One vector per customer from the exported encoder; Great Expectations on encoded.*."),
    Step("segment", ("segment",), "spark", "Clusters, assignments and each customer's history."),
    Step("score", ("score",), "spark", "What each customer is worth and may do next, what to offer them, and who is held out."),
    Step("publish", ("publish",), "spark", "The tables BI reads; the day's manifest row comes last."),
    Step("check_marts", ("check", "marts"), "spark", "Great Expectations on scores.* and marts.*."),
    Step("report", ("report",), "plain", "The page a person looks at."),
    Step("notify", ("notify",), "plain", "Webhooks of the day's changes, where conf/activation.toml declares some."),
)

TABLES = {
    "bronze": ("files", "events", "orders", "products", "customers", "rates"),
    "clean": (
        "events",
        "sessions",
        "orders",
        "returns",
        "visitor_days",
        "identities",
        "identity_alarms",
        "identity_days",
        "products",
        "customers",
        "events_rejects",
        "orders_rejects",
        "products_rejects",
        "customers_rejects",
    ),
    "features": ("customer_days", "event_sequences", "customers", "outcomes", "item_days", "texts", "vectors", "interests"),
    "encoded": ("customers", "sequences"),
    "segments": ("assignments", "definitions", "calibration", "lineage", "history", "candidates"),
    "scores": ("customer_values", "customer_outcomes", "recommendations", "holdouts"),
    "marts": (
        "customer_segments",
        "segment_profiles",
        "segment_changes",
        "segment_moves",
        "segment_demand",
        "effects",
        "campaign_uplift",
        "refreshes",
    ),
    "activation": ("deliveries",),
    "quality": ("results", "profiles", "quarantine", "reconciliation", "omissions"),
}
CHECKED_LAYERS = ("clean", "features", "encoded", "scores", "marts")
# Layers that one step checks, because a check of its own takes seconds to start.
CHECKED_TOGETHER = {"marts": ("scores", "marts")}
# Rejects are bad rows by definition; quality.reconciliation counts each of them and stops the day where one is missing.
CHECKED_TABLES = {layer: tuple(t for t in TABLES[layer] if not t.endswith("_rejects")) for layer in CHECKED_LAYERS}
# Folders of the model store.
MODEL_FAMILIES = ("autoencoder", "customer_values", "customer_outcomes", "recommendations", "text_models")
NOT_DUE_EXIT_CODE = 99
LAKE_BUSY_EXIT_CODE = 75  # EX_TEMPFAIL: another command holds the lock of the lake
