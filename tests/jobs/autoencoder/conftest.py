"""A small shop as the features step leaves it: `features/customers` written with delta-rs."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import DeltaTable, write_deltalake

from jobs.autoencoder import preprocessing
from jobs.autoencoder.data import ATTRIBUTES_PROPERTY, NAMES_PROPERTY, TABLE
from jobs.autoencoder.model import Autoencoder, Sizes
from jobs.config.policy import Column, Selection
from jobs.config.settings import Settings, Train


@pytest.fixture
def points() -> torch.Tensor:
    """200 x 6, most of the variance in two directions."""
    random = torch.Generator().manual_seed(4)
    plane = torch.randn(200, 2, generator=random) @ torch.randn(2, 6, generator=random)
    return plane + 0.1 * torch.randn(200, 6, generator=random)


@pytest.fixture
def network(points: torch.Tensor) -> Callable[..., Autoencoder]:
    """Makes an untrained network for `points`, given the size of its latent and the widths between."""
    names = [str(number) for number in range(points.shape[1])]
    no_codes = np.empty((len(points), 0), dtype=np.int64)
    fitted = preprocessing.fit(points.numpy(), no_codes, names, [Column()] * len(names), {}, Selection(1, 1), seed=1)
    return lambda latent, hidden=(): Autoencoder(Sizes(len(names), latent, hidden), fitted.numbers)


@pytest.fixture
def settings(tmp_path: Path, shop: "Shop") -> Settings:
    return shop.settings(tmp_path, epochs=30)


@pytest.fixture(scope="session")
def shop() -> "Shop":
    return Shop()


class Shop:
    """Customers customer-00000, customer-00001, ... and a way to write them."""

    day = date(2026, 1, 31)
    features = 12

    @staticmethod
    def settings(place: Path, epochs: int) -> Settings:
        """A quick training that nobody follows, with all its files under `place`."""
        roots = {"lake": f"{place}/lake", "models": f"{place}/models", "reports": "", "source": "", "input": ""}
        return Settings(**roots, train=Train(latent=3, hidden=(64, 32), epochs=epochs, tracking=""))

    @staticmethod
    def ids(n: int) -> list[str]:
        return [f"customer-{number:05d}" for number in range(n)]

    def values(self, n: int = 300, seed: int = 5) -> np.ndarray:
        """n x features: three hidden traits bent into counts, money and shares, with noise and two percent missing."""
        random = np.random.default_rng(seed)
        traits = random.normal(size=(n, 3)) @ np.random.default_rng(1).normal(size=(3, self.features))
        bent = np.tanh(traits) + 0.1 * random.normal(size=(n, self.features))
        bent[:, :3] = np.exp(2 * bent[:, :3])
        bent[random.random(bent.shape) < 0.02] = np.nan
        return bent.astype(np.float32)

    def countries(self, n: int = 300) -> list[str | None]:
        """n countries: GB, DE, FR and one customer's own, empty and null among them."""
        found = np.random.default_rng(8).choice(["GB", "GB", "GB", "DE", "DE", "FR", "", None], n).tolist()
        return [f"land-{number}" if number % 50 == 3 else country for number, country in enumerate(found)]

    def write(self, lake: str, matrix: np.ndarray, names: int | None = None, mode: str = "overwrite", **columns) -> None:
        """`matrix` as vectors, NaN as null; `columns` take the place of customer_id, country, is_active or day."""
        offsets = np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32)
        rows = {
            "customer_id": self.ids(len(matrix)),
            "country": self.countries(len(matrix)),
            "is_active": np.ones(len(matrix), bool),
            "vector": pa.ListArray.from_arrays(offsets, pa.array(matrix.ravel(), mask=np.isnan(matrix).ravel())),
            "day": pa.array([self.day] * len(matrix)),
        }
        write_deltalake(f"{lake}/{TABLE}", pa.table(rows | columns), partition_by=["day"], mode=mode)
        named = json.dumps([f"feature_{number}" for number in range(self.features if names is None else names)])
        properties = {NAMES_PROPERTY: named, ATTRIBUTES_PROPERTY: json.dumps(["country"])}
        DeltaTable(f"{lake}/{TABLE}").alter.set_table_properties(properties, raise_if_not_exists=False)
