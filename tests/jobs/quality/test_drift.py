"""Drift: the customers of a day against those the champion was trained on."""

import json
from pathlib import Path

import pytest

from jobs import catalogue
from jobs.quality import drift, pipeline, suites
from jobs.storage import models
from tests.jobs.quality.rows import DAY, read_results, write_table


def test_customers_are_compared_with_those_the_champion_was_trained_on(lake, settings):
    vector = {name: float(n) for n, name in enumerate(catalogue.VECTOR)}
    rows = [
        {"customer_id": str(n), "vector": [None if n % 2 and name == "orders_7d" else v for name, v in vector.items()]}
        for n in range(4)
    ]
    write_table(lake, "features.customers", *rows, {"customer_id": "dormant", "is_active": False, "vector": [9e9] * len(vector)})
    write_table(lake, "features.customer_days", {})
    for name in ("outcomes", "item_days", "texts", "vectors", "interests"):
        write_table(lake, f"features.{name}", {})
    at = catalogue.VECTOR.index("orders_7d")
    training_profile = {
        "orders_7d": {"edges": [at + 1.0], "shares": [1.0, 0.0], "missing_share": 0.5, "low": 0.0, "high": at},
        # the customers all lie above the edge, and above the highest value
        "net_7d": {"edges": [-1.0], "shares": [0.5, 0.5], "missing_share": 0.0, "low": -2.0, "high": -0.5},
        "reconstruction_error": {"edges": [1.0], "shares": [0.5, 0.5], "missing_share": 0.0, "low": 0.0, "high": 2.0},
    }
    errors = [{"customer_id": str(n), "reconstruction_error": 0.5 * n} for n in range(1, 5)]
    write_table(lake, "encoded.customers", *errors, {"customer_id": "dormant", "is_active": False, "reconstruction_error": 9e9})

    def write(folder: Path) -> None:
        (folder / "meta.json").write_text(json.dumps({"profile": training_profile}))

    models.save(settings.models, "v1", write)
    models.promote(settings.models, "v1", DAY)
    for layer in ("features", "encoded"):
        pipeline.run(lake, settings, layer, [DAY])
    results = {r["column"]: r for r in read_results(lake) if (r["column"] or "").startswith((suites.PSI, suites.OUT_OF_RANGE))}
    assert {name: (r["success"], r["severity"]) for name, r in results.items()} == {
        "psi_net_7d": (False, "warning"),
        "psi_orders_7d": (True, "warning"),
        "psi_reconstruction_error": (True, "warning"),
        "out_of_range": (False, "warning"),
    }
    assert float(results["out_of_range"]["observed"]) == pytest.approx(4 / 6)  # of four and two known values
    assert float(results["psi_net_7d"]["observed"]) == pytest.approx(drift.psi(training_profile["net_7d"], {1: 4}), rel=1e-4)
    assert float(results["psi_orders_7d"]["observed"]) == pytest.approx(0, abs=1e-6)
