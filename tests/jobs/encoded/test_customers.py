"""encoded.customers: the rows, and the errors before anything is written."""

import os
import subprocess
from dataclasses import replace
from functools import partial

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest

from jobs.config.settings import HOME
from jobs.encoded import customers as encoded
from jobs.encoder import OnnxEncoder
from jobs.engine import runner
from jobs.errors import UserError
from jobs.storage import models
from tests.jobs import planted
from tests.jobs.planted import DAY

OUTPUTS = ["vector", "reconstruction_error", "isolation_score"]


class HalvingEncoder:
    """Halves every feature, a missing one as 0; the error is the number of missing values, the score the number of letters."""

    def run(self, matrix, attributes):
        missing = np.isnan(matrix)
        scores = np.array([len("".join(row)) for row in attributes.tolist()], dtype=np.float32)
        return np.where(missing, 0, matrix / 2).astype(np.float32), missing.sum(axis=1).astype(np.float32), scores


class BrokenEncoder(HalvingEncoder):
    def run(self, matrix, attributes):
        vectors, *scores = super().run(matrix, attributes)
        return np.where(vectors == 4, np.nan, vectors), *scores


FEATURES = pa.table(
    {
        "customer_id": ["a", "b", "c"],
        "day": [DAY] * 3,
        "is_active": [True, False, True],
        "vector": pa.array([[8.0, 2.0, None], [None, None, None], [0.0, -1.0, 3.0]], pa.list_(pa.float32())),
        "country": ["GB", None, ""],
        "device": ["tablet", "phone", None],
    }
)


def test_every_customer_gets_a_vector_and_null_is_a_missing_value():
    encode = partial(encoded.encode_customers, encoder=HalvingEncoder(), version="v1", attributes=["device", "country"])

    rows = encode({"customers": FEATURES})["encoded"].to_pylist()

    assert [tuple(row.values()) for row in rows] == [
        ("a", DAY, "v1", [4.0, 1.0, 0.0], 1.0, True, 8.0, "learned"),
        ("b", DAY, "v1", [0.0, 0.0, 0.0], 3.0, False, 5.0, "learned"),
        ("c", DAY, "v1", [0.0, -0.5, 1.5], 0.0, True, 0.0, "learned"),
    ]
    assert encode({"customers": FEATURES.slice(3)})["encoded"].num_rows == 0


def test_a_vector_with_nan_gives_a_one_line_error_that_names_the_customer():
    with pytest.raises(UserError, match=r"^encode: encoded.customers, day 2024-03-01: customer a gets .*$"):
        encoded.encode_customers({"customers": FEATURES}, BrokenEncoder(), "v1")


def test_a_model_trained_on_other_features_is_refused_and_they_are_named():
    def refuse(features, attributes):
        with pytest.raises(UserError) as raised:
            encoded._require_same_features(planted.NAMES, ["country"], {"features": features, "attributes": attributes}, "v1")
        return str(raised.value)

    assert "the table lacks margin; the model lacks night_share" in refuse(["orders_365d", "return_share", "margin"], {})
    assert "another order" in refuse(planted.NAMES[::-1], {})
    assert "needs the attribute device, which features.customers lacks" in refuse(planted.NAMES, {"device": {}, "country": {}})


@pytest.mark.parametrize(
    ("vector", "error", "score"),
    [([4.0, 0.001], 1.0, 2.0), ([4.0, 0.0], 0.9, 2.0), ([4.0], 1.0, 2.0), ([4.0, 0.0], 1.0, 2.1)],
)
def test_an_encoder_that_does_not_reproduce_its_golden_outputs_is_refused(vector, error, score):
    golden = {"features": [[8.0, np.nan]], "attributes": [["GB"]], "vector": [vector], "reconstruction_error": [error]}
    golden |= {"isolation_score": [score]}

    with pytest.raises(UserError, match=r"differs from golden.json"):
        encoded._require_golden(HalvingEncoder(), golden, "v1", OUTPUTS)


def test_an_encoder_that_reproduces_its_golden_outputs_is_accepted():
    golden = {
        "features": [[8.0, np.nan], [np.inf, 0.0]],
        "attributes": [["GB"], [""]],
        "vector": [[4.0, 0.000001], [np.inf, 0.0]],
    }

    encoded._require_golden(
        HalvingEncoder(), golden | {"reconstruction_error": [1.0, 0.0], "isolation_score": [2.0, 0.0]}, "v1", OUTPUTS
    )


def test_without_champion_rows_or_good_files_nothing_is_written(shop, tmp_path):
    def with_models(root):
        return shop.lake, replace(shop.settings, models=str(root))

    version = shop.lake.version("encoded.customers")
    with pytest.raises(UserError, match=r"no model is champion on 2024-03-01"):
        encoded.run(*with_models(tmp_path / "none"), DAY)
    with pytest.raises(UserError, match=r"features.customers has no rows on 2030-01-01"):
        encoded.run(*with_models(shop.settings.models), DAY.replace(year=2030, month=1))
    planted.promote(str(tmp_path), "v9", DAY)
    with pytest.raises(UserError, match=r"v9/encoder.onnx is missing"):
        encoded.run(*with_models(tmp_path), DAY)
    (tmp_path / "autoencoder" / "v9" / "encoder.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"encoder.onnx cannot be load_encoder"):
        encoded.run(*with_models(tmp_path), DAY)
    assert shop.lake.version("encoded.customers") == version


TRAIN = HOME / ".venv" / "train" / "bin" / "python"


@pytest.mark.skipif(not TRAIN.exists(), reason="no train environment: make .venv/train")
def test_a_trained_model_encodes_active_and_dormant_customers_as_onnxruntime_does(lake, monkeypatch):
    customers = planted.customers({"loyal": 60, "returner": 60, "nightly": 60}, dormant=5)
    for number, customer in enumerate(customers):
        customer.country = ("GB", "DE", None, "")[number % 4] if customer.values else "Atlantis"
    customers[1].values = (8.0, np.inf, -np.inf)
    planted.write(lake, {DAY: ("v1", customers)})
    lake.replace_rows(encoded.TABLE, encoded.TABLE.arrow_schema.empty_table())
    roots = {"SHOAL_LAKE": lake.root, "SHOAL_MODELS": f"{lake.root}-models", "SHOAL_ENV": "local"}
    command = [TRAIN, "-m", "jobs", "train", "--day", str(DAY)]
    small = {"SHOAL_TRAIN__EPOCHS": "2", "SHOAL_TRAIN__LATENT": "2"}
    subprocess.run(command, cwd=HOME, env=os.environ | roots | small, check=True)
    settings = replace(planted.settings(lake), models=roots["SHOAL_MODELS"])

    monkeypatch.setattr(runner, "ROWS_PER_BUCKET", 100)
    encoded.run(lake, settings, DAY)

    version = models.champion(settings.models, DAY)["version"]
    rows = {row["customer_id"]: row for row in lake.read_arrow(encoded.TABLE).to_pylist()}
    values = np.array([c.values or (0.0, np.nan, np.nan) for c in customers], dtype=np.float32)
    countries = np.array([[customer.country or ""] for customer in customers], dtype=object)
    encoder = OnnxEncoder(models.read(settings.models, version, "encoder.onnx"), OUTPUTS)
    vectors, errors, scores = encoder.run(values, countries)
    assert {row["model_version"] for row in rows.values()} == {version}
    assert len(rows) == len(customers)
    stored = np.array([rows[customer.customer_id]["vector"] for customer in customers])
    assert stored == pytest.approx(vectors, abs=1e-5)
    assert [rows[c.customer_id]["reconstruction_error"] for c in customers] == pytest.approx(errors.tolist(), abs=1e-5)
    assert [rows[c.customer_id]["isolation_score"] for c in customers] == pytest.approx(scores.tolist(), abs=1e-5)
    meta = models.meta(settings.models, version)
    assert set(meta["attributes"]["country"]["categories"]) == {"GB", "DE"}
    _assert_same_on_random_rows(encoder, 10_000)


def _assert_same_on_random_rows(encoder, n):
    """Compare the outputs with those of one onnxruntime session for all rows."""
    random = np.random.default_rng(4)
    values = (random.normal(size=(n, 3)) * 10.0 ** random.integers(-6, 9, size=(n, 3))).astype(np.float32)
    for special in (np.inf, -np.inf, np.nan):
        values[random.random(values.shape) < 0.05] = special
    countries = random.choice(["GB", "DE", "Atlantis", ""], n)
    table = pa.table(
        {
            "customer_id": [str(number) for number in range(n)],
            "day": [DAY] * n,
            "is_active": [True] * n,
            "vector": pa.array(
                [[None if np.isnan(value) else value for value in row] for row in values.tolist()], pa.list_(pa.float32())
            ),
            "country": [country or None for country in countries],
        }
    )
    rows = encoded.encode_customers({"customers": table}, encoder, "v1", ["country"])["encoded"]
    session = onnxruntime.InferenceSession(encoder.content, providers=["CPUExecutionProvider"])
    expected = session.run(OUTPUTS, {"features": values, "attributes": countries.astype(object).reshape(-1, 1)})
    for name, output in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(np.stack(rows[name].to_pylist()), output, rtol=1e-5, atol=1e-5)
