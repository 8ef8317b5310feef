"""Customers of planted types, as rows of features.customers and encoded.customers, for the tests of later layers."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
from sklearn.cluster import KMeans

from jobs.catalogue import Expression, Feature
from jobs.config.settings import Segment, Settings
from jobs.encoded import customers as encoded
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.table import Table
from jobs.storage.vectors import to_matrix

DAY = date(2024, 3, 1)
CATALOGUE = tuple(
    Feature(name, "DOUBLE", "", 365, meaning, missing="", expression=Expression(""), high=high, low=low)
    for name, meaning, high, low in (
        ("orders_365d", "Orders in 365 days", "frequent buyers", "rare buyers"),
        ("return_share", "Share returned", "many returns", "few returns"),
        ("night_share", "Share at night", "by night", "by day"),
    )
)
NAMES = [feature.name for feature in CATALOGUE]
TYPES = {
    "loyal": (20.0, 0.1, 0.1),
    "returner": (6.0, 0.7, 0.1),
    "nightly": (4.0, 0.1, 0.8),
    "rare": (1.0, 0.1, 0.1),
    "bulk": (40.0, 0.1, 0.1),
}
SCATTER = np.array([0.4, 0.02, 0.02])
UNIT = np.array([5.0, 0.2, 0.2])  # a vector holds value / UNIT
FEATURES = Table(
    "features.customers",
    "The columns that the later layers read.",
    """customer_id STRING, day DATE, is_active BOOLEAN, country STRING, recency_days BIGINT, orders_365d BIGINT,
       net_365d DECIMAL(18,4), tenure_days BIGINT, vector ARRAY<FLOAT>""",
    partition="day",
    properties={"shoal.vector": json.dumps(NAMES), "shoal.attributes": json.dumps(["country"])},
)


@dataclass
class Customer:
    customer_id: str
    values: tuple[float | None, ...] = ()  # in the order of NAMES; empty: dormant
    recency_days: int | None = 1
    country: str | None = None
    tenure_days: int = 400


def customers(sizes: dict[str, int], seed: int = 5, dormant: int = 0) -> list[Customer]:
    """Return `sizes` customers by type of TYPES, with ids like loyal-3, and `dormant` ones with ids like dormant-0."""
    random = np.random.default_rng(seed)
    active = []
    for kind, n in sizes.items():
        for i, row in enumerate(random.normal(TYPES[kind], SCATTER, (n, len(NAMES)))):
            active.append(Customer(f"{kind}-{i}", tuple(row.tolist())))
    return active + [Customer(f"dormant-{i}", recency_days=400 + i if i else None) for i in range(dormant)]


def write(lake: Lake, days: dict[date, tuple[str, list[Customer]]]) -> None:
    """Write the rows of both tables for the days; each has a model version and its customers."""
    features, vectors = [], []
    for day, (version, of_day) in days.items():
        for customer in of_day:
            values = customer.values or (0.0, None, None)
            orders = round(values[0] or 0)
            key = {"customer_id": customer.customer_id, "day": day, "is_active": bool(customer.values)}
            features.append(
                key
                | {
                    "country": customer.country,
                    "recency_days": customer.recency_days,
                    "orders_365d": orders,
                    "net_365d": Decimal(10 * orders),
                    "tenure_days": customer.tenure_days,
                    "vector": values,
                }
            )
            scores = {"reconstruction_error": 0.01, "isolation_score": 0.4}
            vectors.append(
                key | scores | {"model_version": version, "vector": vector(customer, version), "representation": "learned"}
            )
    replace_days(lake, FEATURES, features, days)
    replace_days(lake, encoded.TABLE, vectors, days)


def replace_days(lake: Lake, table: Table, rows: list[dict], days: Collection[date]) -> None:
    """Make `rows`, which may lack columns, the rows of these days."""
    lake.replace_rows(table, pa.Table.from_pylist(rows, table.arrow_schema), days)


def fit_centres(lake: Lake, points: pa.Table, k: int, segment: Segment, target: float) -> np.ndarray:
    """Fit K-Means by scikit-learn, in the place of MLlib's."""
    return KMeans(k, n_init=segment.seeds, random_state=segment.seed).fit(to_matrix(points["vector"])).cluster_centers_


def vector(customer: Customer, version: str) -> list[float]:
    """Return the vector of a customer; each model version has its own axes, so vectors of two versions cannot be compared."""
    return _vectors(np.array([customer.values or (0.0, 0.0, 0.0)]), version)[0].tolist()


@dataclass(frozen=True)
class Encoder:
    """Gives vector(), in place of the encoder file that promote() does not write."""

    version: str
    outputs: tuple[str, ...] = ("vector",)

    def run(self, matrix: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray]:
        return (_vectors(matrix, self.version).astype(np.float32),)


def load_encoder(root: str, version: str, outputs: list[str], file: str) -> Encoder:
    """Replace jobs.encoder.load_encoder()."""
    assert outputs == ["vector"]
    return Encoder(version)


def _vectors(values: np.ndarray, version: str) -> np.ndarray:
    axes, _ = np.linalg.qr(np.random.default_rng(list(version.encode())).normal(size=(len(NAMES), len(NAMES))))
    return np.nan_to_num(values, posinf=0.0, neginf=0.0) / UNIT @ axes


def promote(root: str, version: str, since: date) -> None:
    """Make a model champion that consists of meta.json alone; its vectors are in the lake already."""
    models.save(
        root, version, lambda folder: (folder / "meta.json").write_text(json.dumps({"features": NAMES, "attributes": {}}))
    )
    models.promote(root, version, since)


def settings(lake: Lake, **segment) -> Settings:
    """Return settings for the lake of a test, with the models next to it and small numbers of clusters."""
    small = {"k_min": 3, "k_max": 6, "min_customers": 10, "representation": "learned"} | segment
    models_root = f"{lake.root}-models"
    return Settings(lake=lake.root, models=models_root, reports="", source="", input="", segment=Segment(**small))
