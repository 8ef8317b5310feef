"""One row per customer and day: the vector that the day's champion gives the customer.

Input: features.customers and the champion's encoder, which contains all preprocessing (imputation, scaling, categories) under
the policy of its training. Dormant customers are encoded too. A day is encoded with the model that was champion on that day.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import partial
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.encoder import REPRESENTATIONS, Encoder, append_vectors, features_table, to_inputs
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Kernel, Tables, Write
from jobs.errors import UserError
from jobs.input_groups import align_vectors, find_models, list_learned, rows_of_group
from jobs.representations import RepresentationEncoder, load_representations, require_model
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.models import LEARNED_EMBEDDING
from jobs.storage.rows import Rows
from jobs.storage.table import Table
from jobs.storage.vectors import to_lists

GOLDEN_TOLERANCE = 1e-5  # absolute and relative, between the outputs of the training environment and of this one

_KEYS = ["customer_id", "day", "is_active"]
_SCORES = ["reconstruction_error", "isolation_score"]

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    day DATE COMMENT 'As of the end of this day, in the business time zone',
    model_version STRING COMMENT 'Version of the encoder',
    vector ARRAY<FLOAT> COMMENT 'Coordinates in the space of this model and representation; not comparable across them',
    reconstruction_error DOUBLE COMMENT 'Mean squared error in scaled units; high: unlike the customers the model was trained on',
    is_active BOOLEAN COMMENT 'Not dormant: only such customers are trained on and clustered',
    isolation_score DOUBLE COMMENT 'By an isolation forest (Liu et al. 2008), 0 to 1; high: unusual, few splits isolate them',
    representation STRING COMMENT 'learned, learned_text and so on, sequence, pca, or features: raw features; null: learned'
"""
TABLE = Table(
    "encoded.customers",
    "One row per customer and day: the vector that the encoder of the day gives the customer.",
    SCHEMA,
    partition="day",
    checks={"has_customer": "customer_id IS NOT NULL", "has_vector": "vector IS NOT NULL"},
)


def encode_customers(
    tables: Tables,
    encoder: Encoder,
    version: str,
    attributes: Sequence[str] = (),
    representation: str = LEARNED_EMBEDDING,
    groups: Mapping[str, int] = MappingProxyType({}),
) -> Tables:
    """Encode customers under the model `version`; the key is the customer, and no row depends on another.

    Takes "customers", the columns of features_table() with `attributes`, and the rows of each of the `groups`, which holds the
    dimensions of their vectors. Returns "encoded", rows of encoded.customers in the order of "customers". The outputs of
    `encoder` are the vector, the reconstruction error and the isolation score. A row costs what the model costs: some 10
    microseconds of a CPU, up to half of it for the isolation score. Raises UserError where the encoder gives a customer NaN or
    infinity.
    """
    customers = tables["customers"]
    if customers.num_rows == 0:
        return {"encoded": TABLE.arrow_schema.empty_table()}
    ids = customers["customer_id"].combine_chunks()
    of_groups = [align_vectors(tables[group], ids, n_dimensions) for group, n_dimensions in groups.items()]
    vectors, *scores = encoder.run(*to_inputs(customers, attributes, of_groups))
    _require_finite(customers, [vectors, *scores])
    constants = {"model_version": version, "representation": representation}
    columns = {
        **{name: customers[name] for name in _KEYS},
        **{name: pa.repeat(pa.scalar(value, pa.string()), customers.num_rows) for name, value in constants.items()},
        "vector": to_lists(vectors),
        **{name: pa.array(score, pa.float64()) for name, score in zip(_SCORES, scores, strict=True)},
    }
    return {"encoded": pa.table(columns).select(TABLE.columns)}


def _require_finite(customers: pa.Table, outputs: list[np.ndarray]) -> None:
    is_broken = ~np.logical_and.reduce([np.isfinite(output.reshape(len(output), -1)).all(axis=1) for output in outputs])
    if is_broken.any():
        row = int(np.argmax(is_broken))
        raise UserError(
            f"encode: encoded.customers, day {customers['day'][row]}: customer {customers['customer_id'][row]} gets a "
            "vector that is no number; train again: shoal train --retrain"
        )


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


def _require_golden(
    encoder: Encoder, golden: dict, version: str, outputs: Sequence[str], groups: Collection[str] = (), file: str = "golden.json"
) -> None:
    """Raise UserError where the encoder does not give the outputs that it gave in the training environment."""
    texts = np.array(golden["attributes"], dtype=object).reshape(len(golden["features"]), -1)
    cells = append_vectors(texts, [np.array(golden[group], dtype=np.float32) for group in groups])
    results = encoder.run(np.array(golden["features"], dtype=np.float32), cells)
    for name, result in zip(outputs, results, strict=True):
        expected = np.array(golden[name], dtype=np.float64)
        if result.shape != expected.shape or not np.allclose(result, expected, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE):
            raise UserError(
                f"encode: model {version}: {name} differs from {file} by more than {GOLDEN_TOLERANCE}; "
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
    encoder = _load_encoder(settings.models, version, meta, champion["representation"])
    stored = find_models(lake.root, day)
    for group, facts in encoder.groups.items():
        require_model(group, stored.get(group, ()), facts, day)
    kernel = partial(
        encode_customers,
        encoder=encoder,
        version=version,
        attributes=list(meta["attributes"]),
        representation=champion["representation"],
        groups={group: facts["dimensions"] for group, facts in encoder.groups.items()},
    )
    _encode_day(lake, settings, day, kernel, list(meta["attributes"]), list(encoder.groups))


def _load_encoder(root: str, version: str, meta: dict, representation: str) -> RepresentationEncoder:
    """Return the encoder of a representation and of the scores. Raises UserError where a graph is not as it was trained."""
    outputs = [REPRESENTATIONS.get(representation, representation), *_SCORES]
    if representation in REPRESENTATIONS:
        encoder = load_representations(root, version, meta, outputs)
        _require_golden(encoder, models.golden(root, version), version, outputs)
        return encoder
    scores = load_representations(root, version, meta, _SCORES)
    _require_golden(scores, models.golden(root, version), version, _SCORES)
    if representation in list_learned(meta["groups"]):
        wide = load_representations(root, version, meta, [representation])
        golden = models.groups_golden(root, version, wide.groups)
        _require_golden(wide, golden, version, [representation], wide.groups, models.GROUPS_GOLDEN)
    return load_representations(root, version, meta, outputs)


def _encode_day(lake: Lake, settings: Settings, day: date, kernel: Kernel, attributes: list[str], groups: list[str]) -> None:
    n_rows = lake.count_rows("features.customers", [day])
    with open_runner(lake, settings, n_rows) as runner:
        opened = lake.open_for_write(TABLE)
        inputs = {"customers": Rows(features_table(attributes), "customer_id", days=[day])}
        customers = runner.read(inputs | {group: rows_of_group(group, day) for group in groups}, count_buckets(n_rows))
        opened.commit(runner.run(kernel, customers, {"encoded": Write(TABLE)}).files["encoded"], [day])
