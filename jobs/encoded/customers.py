"""One row per customer and day: the vector that the day's champion gives the customer.

Input: features.customers and the champion's encoder, which contains all preprocessing (imputation, scaling, categories) under
the policy of its training. Dormant customers are encoded too. A day is encoded with the model that was champion on that day.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.settings import Settings
from jobs.encoder import REPRESENTATIONS, Encoder, load_encoder, to_inputs
from jobs.engine.workers import user_errors
from jobs.errors import UserError
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.models import LEARNED_EMBEDDING
from jobs.storage.table import Table
from jobs.storage.vectors import to_lists

GOLDEN_TOLERANCE = 1e-5  # absolute and relative, between the outputs of the training environment and of this one

_KEYS = ["customer_id", "day", "is_active"]
_SCORES = ["reconstruction_error", "isolation_score"]

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    day DATE COMMENT 'As of the end of this day, UTC',
    model_version STRING COMMENT 'Version of the encoder',
    vector ARRAY<FLOAT> COMMENT 'Coordinates in the space of this model and representation; not comparable across them',
    reconstruction_error DOUBLE COMMENT 'Mean squared error in scaled units; high: unlike the customers the model was trained on',
    is_active BOOLEAN COMMENT 'Not dormant: only such customers are trained on and clustered',
    isolation_score DOUBLE COMMENT 'By an isolation forest (Liu et al. 2008), 0 to 1; high: unusual, few splits isolate them',
    representation STRING COMMENT 'learned: learned embedding, pca, features: scaled raw features; null: learned'
"""
TABLE = Table(
    "encoded.customers",
    "One row per customer and day: the vector that the encoder of the day gives the customer.",
    SCHEMA,
    partition="day",
    checks={"has_customer": "customer_id IS NOT NULL", "has_vector": "vector IS NOT NULL"},
)


def encode_customers(
    features: DataFrame, encoder: Encoder, version: str, attributes: Sequence[str] = (), representation: str = LEARNED_EMBEDDING
) -> DataFrame:
    """(customer_id, day, is_active, vector, *attributes) of features.customers -> encoded.customers under the model `version`.

    The outputs of `encoder` are the vector, the reconstruction error and the isolation score. Evaluating the frame raises
    UserError, inside the workers, where the encoder gives a customer NaN or infinity.
    """
    schema = (
        f"customer_id STRING, day DATE, is_active BOOLEAN, vector ARRAY<FLOAT>, {', '.join(f'{name} DOUBLE' for name in _SCORES)}"
    )
    encode = functools.partial(_encode_batches, encoder, list(attributes))
    rows = features.select(*_KEYS, "vector", *attributes).mapInArrow(encode, schema)
    constants = {"model_version": F.lit(version), "representation": F.lit(representation)}
    return rows.withColumns(constants).select(*TABLE.columns)


def _encode_batches(encoder: Encoder, attributes: list[str], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if batch.num_rows == 0:
            continue
        vectors, *scores = encoder.run(*to_inputs(batch, attributes))
        is_broken = ~np.isfinite(np.column_stack([vectors, *scores])).all(axis=1)
        if is_broken.any():
            row = int(np.argmax(is_broken))
            raise UserError(
                f"encode: encoded.customers, day {batch['day'][row]}: customer {batch['customer_id'][row]} gets a "
                "vector that is no number; train again: shoal train --retrain"
            )
        columns = [*(batch[name] for name in _KEYS), to_lists(vectors), *(pa.array(score, pa.float64()) for score in scores)]
        yield pa.RecordBatch.from_arrays(columns, names=[*_KEYS, "vector", *_SCORES])


def _require_same_features(features: list[str], attributes: list[str], meta: dict, version: str) -> None:
    """Raise UserError where features.customers lacks what the model was trained on, by the model's meta.json.

    >>> _require_same_features(["recency_days"], ["country"], {"features": ["recency_days"], "attributes": {}}, "v1")
    """
    if "attributes" not in meta:
        raise UserError(f"encode: model {version} was made by an earlier version of Shoal; train again: shoal train --retrain")
    gone = sorted(set(meta["attributes"]) - set(attributes))
    if gone:
        raise UserError(
            f"encode: model {version} needs the attribute {gone[0]}, which features.customers lacks; "
            "train again: shoal train --retrain"
        )
    trained = meta["features"]
    if features != trained:
        lacks, new = sorted(set(trained) - set(features)), sorted(set(features) - set(trained))
        change = "; ".join(
            [f"the table lacks {', '.join(lacks)}"] * bool(lacks) + [f"the model lacks {', '.join(new)}"] * bool(new)
        )
        raise UserError(
            f"encode: model {version} and the vector of features.customers differ "
            f"({change or 'same features in another order'}); train again: shoal train --retrain"
        )


def _require_golden(encoder: Encoder, golden: dict, version: str, outputs: Sequence[str]) -> None:
    """Raise UserError where the encoder does not give the outputs that it gave in the training environment."""
    texts = np.array(golden["attributes"], dtype=object).reshape(len(golden["features"]), -1)
    results = encoder.run(np.array(golden["features"], dtype=np.float32), texts)
    for name, result in zip(outputs, results, strict=True):
        expected = np.array(golden[name], dtype=np.float64)
        if result.shape != expected.shape or not np.allclose(result, expected, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE):
            raise UserError(
                f"encode: model {version}: {name} differs from golden.json by more than {GOLDEN_TOLERANCE}; "
                "its files are damaged or this onnxruntime computes differently; train again: shoal train --retrain"
            )


def is_stale(lake: Lake, settings: Settings, day: date) -> bool:
    """Return whether the day is encoded, but not with the model and the representation of the day's champion."""
    lake.create(TABLE)  # a lake of an earlier version of Shoal may lack a column
    encodings = lake.count_by(TABLE.name, ["model_version", "representation"], ds.field("day") == day)
    champion = models.champion(settings.models, day)
    current = champion and (champion["version"], champion["representation"])
    return any((version, representation or LEARNED_EMBEDDING) != current for version, representation in encodings)


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Encode all customers of the day with the day's champion.

    Raises UserError without a champion, without the model's files, for a model trained on other features, and where
    the encoder does not reproduce its golden outputs; nothing is written then.
    """
    champion = models.champion(settings.models, day)
    if champion is None:
        raise UserError(f"encode: no model is champion on {day} in {settings.models}; run first: shoal train --day {day}")
    version = champion["version"]
    if day not in lake.days("features.customers"):
        raise UserError(f"encode: features.customers has no rows on {day}; run first: shoal features --day {day}")
    properties = lake.properties("features.customers")
    names, attributes = (json.loads(properties.get(key, "[]")) for key in ("shoal.vector", "shoal.attributes"))
    meta = models.meta(settings.models, version)
    _require_same_features(names, attributes, meta, version)
    outputs = [REPRESENTATIONS[champion["representation"]], *_SCORES]
    encoder = load_encoder(settings.models, version, outputs)
    _require_golden(encoder, models.golden(settings.models, version), version, outputs)
    features = lake.read("features.customers", day, day)
    encoded = encode_customers(features, encoder, version, list(meta["attributes"]), champion["representation"])
    with user_errors():
        lake.replace_days(TABLE, encoded, [day])
