"""A small shop, its `features/customers` written with delta-rs as the features step leaves it."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import DeltaTable, write_deltalake

from jobs.autoencoder.customers import ATTRIBUTES_PROPERTY, NAMES_PROPERTY, TABLE
from jobs.autoencoder.model import Autoencoder, Sizes
from jobs.autoencoder.preprocessing import fit_preprocessing
from jobs.config.policy import Column, Selection
from jobs.config.settings import Settings, Train
from jobs.storage.delta import table_path


@pytest.fixture
def points() -> torch.Tensor:
    """Points (200, 6) with most of the variance in two directions."""
    random = torch.Generator().manual_seed(4)
    plane = torch.randn(200, 2, generator=random) @ torch.randn(2, 6, generator=random)
    return plane + 0.1 * torch.randn(200, 6, generator=random)


@pytest.fixture
def make_network(points: torch.Tensor) -> Callable[..., Autoencoder]:
    """A function that returns an untrained network for `points` from the size of its latent and its hidden widths."""
    names = [str(number) for number in range(points.shape[1])]
    no_codes = np.empty((len(points), 0), dtype=np.int64)
    fitted = fit_preprocessing(points.numpy(), no_codes, names, [Column()] * len(names), {}, Selection(1, 1), seed=1)
    return lambda latent, hidden=(): Autoencoder(Sizes(len(names), latent, hidden), fitted.parameters)


@pytest.fixture
def settings(tmp_path: Path, shop: "Shop") -> Settings:
    return shop.settings(tmp_path, epochs=30)


@pytest.fixture(scope="session")
def shop() -> "Shop":
    return Shop()


class Shop:
    """Customers customer-00000, customer-00001, ... and a function that writes them."""

    day = date(2026, 1, 31)
    features = 12

    @staticmethod
    def settings(folder: Path, epochs: int) -> Settings:
        """Return settings for a quick training without trackers, with all files under `folder`."""
        roots = {"lake": f"{folder}/lake", "models": f"{folder}/models", "reports": "", "source": "", "input": ""}
        return Settings(**roots, train=Train(latent=3, hidden=(64, 32), epochs=epochs, tracking=""))

    @staticmethod
    def ids(n: int) -> list[str]:
        return [f"customer-{number:05d}" for number in range(n)]

    def values(self, n: int = 300, seed: int = 5) -> np.ndarray:
        """Return features (n, 12): three latent traits become counts, money and shares, with noise and two percent missing."""
        random = np.random.default_rng(seed)
        traits = random.normal(size=(n, 3)) @ np.random.default_rng(1).normal(size=(3, self.features))
        features = np.tanh(traits) + 0.1 * random.normal(size=(n, self.features))
        features[:, :3] = np.exp(2 * features[:, :3])
        features[random.random(features.shape) < 0.02] = np.nan
        return features.astype(np.float32)

    def countries(self, n: int = 300) -> list[str | None]:
        """Return n countries: GB, DE, FR, empty, null, and some countries with a single customer."""
        countries = np.random.default_rng(8).choice(["GB", "GB", "GB", "DE", "DE", "FR", "", None], n).tolist()
        return [f"land-{number}" if number % 50 == 3 else country for number, country in enumerate(countries)]

    def write(self, lake: str, features: np.ndarray, n_names: int | None = None, mode: str = "overwrite", **columns) -> None:
        """Write `features` (n, 12) as vectors, NaN as null; `columns` replace customer_id, country, is_active or day."""
        offsets = np.arange(0, features.size + 1, features.shape[1], dtype=np.int32)
        rows = {
            "customer_id": self.ids(len(features)),
            "country": self.countries(len(features)),
            "is_active": np.ones(len(features), bool),
            "vector": pa.ListArray.from_arrays(offsets, pa.array(features.ravel(), mask=np.isnan(features).ravel())),
            "day": pa.array([self.day] * len(features)),
        }
        write_deltalake(table_path(lake, TABLE), pa.table(rows | columns), partition_by=["day"], mode=mode)
        names = json.dumps([f"feature_{number}" for number in range(self.features if n_names is None else n_names)])
        properties = {NAMES_PROPERTY: names, ATTRIBUTES_PROPERTY: json.dumps(["country"])}
        DeltaTable(table_path(lake, TABLE)).alter.set_table_properties(properties, raise_if_not_exists=False)
