"""`python -m benchmarks.training`: the training loop compared with torch's DataLoader, and the training of a million customers.

The DataLoader loop reads single rows and trains a plain denoising autoencoder of the same widths. Shoal's loop predicts
neighbour means, and its reconstruction head is fitted afterwards. Both see each customer the same number of times. Then `shoal
train` runs as a user runs it, with reading, evaluation and export, on a table of its own. Run it with .venv/train/bin/python;
`make bench PARTS=training` does.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from math import inf

import numpy as np
import pyarrow as pa
import torch
from deltalake import DeltaTable, write_deltalake
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import measure
from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.customers import ATTRIBUTES_PROPERTY, NAMES_PROPERTY, TABLE
from jobs.autoencoder.examples import Examples
from jobs.autoencoder.losses import denoising_loss
from jobs.autoencoder.model import Autoencoder, Sizes
from jobs.autoencoder.preprocessing import fit_preprocessing
from jobs.autoencoder.trainer import Phase, train_phases
from jobs.config.policy import Column, Selection
from jobs.config.settings import Train
from jobs.storage.delta import table_path

DAY = date(2026, 3, 31)
FEATURES, TRAITS, KINDS = 96, 12, 8
SETTINGS = Train(hidden=(128, 64), latent=16, batch_size=1024)
N_TRAIN, N_HELD_OUT, EPOCHS = 131_072, 10_000, 2
LARGE_BATCH = 4096  # customers, as a large shop may set it
MIN_SPEED_RATIO, MIN_GEMM_SHARE, MAX_MINUTES, MAX_MATRICES, MAX_ERROR_RATIO = 5.0, 1 / 3, 3.0, 3.0, 1.05


def main(arguments: list[str] | None = None) -> int:
    """Print the figures and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=1_000_000, help="of the whole training; 0 for none")
    n_customers = parser.parse_args(arguments).customers
    _compare_loops()
    if n_customers:
        _measure_whole_training(n_customers)
    return 0


def _compare_loops() -> None:
    """Measure both loops, Shoal's also with larger batches."""
    torch.set_num_threads(os.cpu_count() or 1)
    points = generate_features(N_TRAIN + N_HELD_OUT, seed=1)
    no_codes = np.empty((len(points), 0), dtype=np.int64)
    names = [f"feature_{number}" for number in range(FEATURES)]
    fitted = fit_preprocessing(points, no_codes, names, [Column()] * FEATURES, {}, Selection(1, 1), seed=1)
    train, held_out = fitted.inputs[:N_TRAIN], fitted.inputs[N_TRAIN:]
    examples = Examples.from_imputations([train], SETTINGS.neighbours)
    make_model = partial(Autoencoder, Sizes.from_settings(FEATURES, SETTINGS), fitted.parameters)

    def measure_loop(loop: Callable[[Autoencoder], None]) -> tuple[Autoencoder, float]:
        """Return a trained model and the customers per second."""
        loop(make_model())  # warm-up
        model = make_model()
        return model, EPOCHS * N_TRAIN / _seconds(partial(loop, model))

    baseline, baseline_speed = measure_loop(partial(_train_with_data_loader, points=train))
    with torch.no_grad():
        baseline_error = float((_reconstruct(baseline, held_out) - held_out).square().mean())
    gemm = _gemm_rate()
    print(f"DataLoader loop {baseline_speed / 1e6:.2f} million customers a second; {gemm / 1e9:.0f} GFLOP/s in GEMM")
    for batch_size in (SETTINGS.batch_size, LARGE_BATCH):
        settings = replace(SETTINGS, batch_size=batch_size)
        model, speed = measure_loop(partial(_train_with_shoal, examples=examples, settings=settings))
        model.eval().fit_reconstruction_head(train, train)
        with torch.no_grad():
            error = float(model.squared_errors(held_out).mean())
        print(f"Shoal's loop {speed / 1e6:.2f} with batches of {batch_size:,}")
        measure.check_at_least("training: customers a second, Shoal / DataLoader", speed / baseline_speed, MIN_SPEED_RATIO)
        measure.check_at_least("training: share of the machine's GEMM rate", speed * _operations(model) / gemm, MIN_GEMM_SHARE)
        measure.check_at_most("training: held-out error, Shoal / DataLoader", error / baseline_error, MAX_ERROR_RATIO)


def _train_with_shoal(model: Autoencoder, examples: list[Examples], settings: Train) -> None:
    phase = Phase("restore", denoising_loss(model, settings), EPOCHS, settings.learning_rate)
    with tempfile.TemporaryDirectory() as folder:
        train_phases(model, [phase], examples, settings, CheckpointFile(folder, "none", inf), lambda _: None)


def _train_with_data_loader(model: Autoencoder, points: torch.Tensor) -> None:
    weights = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(weights, SETTINGS.learning_rate, weight_decay=SETTINGS.weight_decay)
    steps = EPOCHS * -(-len(points) // SETTINGS.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, SETTINGS.learning_rate, total_steps=steps, pct_start=0.1)
    for _ in range(EPOCHS):
        for (clean,) in DataLoader(TensorDataset(points), SETTINGS.batch_size, shuffle=True):
            is_swapped = torch.rand_like(clean) < SETTINGS.noise
            noisy = torch.where(is_swapped, clean[torch.randperm(len(clean))], clean)
            loss = (_reconstruct(model, noisy) - clean).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()


def _reconstruct(model: Autoencoder, points: torch.Tensor) -> torch.Tensor:
    return model.neighbour_head(model.decoder(model.encoder(points)))


def _operations(model: Autoencoder) -> int:
    """Return the operations per customer: forward, weight gradients, and input gradients of all layers but the first."""
    sizes = [weights.numel() for weights in model.parameters() if weights.requires_grad and weights.ndim == 2]
    return 6 * sum(sizes) - 2 * sizes[0]


def _gemm_rate() -> float:
    """Return the operations per second of multiplying 4,096 x 4,096 matrices of float32."""
    a, b = torch.rand(2, 4096, 4096)
    a @ b
    return 2 * 4096**3 / min(_seconds(lambda: a @ b) for _ in range(3))


def _measure_whole_training(n_customers: int) -> None:
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        write(f"{folder}/lake", n_customers)
        write(f"{folder}/small_lake", 1_000)
        small_run = _train(f"{folder}/small_lake", f"{folder}/small_models")
        run = _train(f"{folder}/lake", f"{folder}/models")
    matrices = (run.peak_bytes - small_run.peak_bytes) / (4 * FEATURES * n_customers)
    measure.check_at_most(f"training: {n_customers:,} customers, minutes", run.seconds / 60, MAX_MINUTES)
    print(f"peak {run.peak_bytes / 2**30:.2f} GiB, of which {small_run.peak_bytes / 2**30:.2f} for 1,000 customers too")
    measure.check_at_most("training: memory above that of 1,000 customers, in feature matrices", matrices, MAX_MATRICES)


def _train(lake: str, models: str) -> measure.Run:
    environment = {"SHOAL_LAKE": lake, "SHOAL_MODELS": models, "SHOAL_TRAIN__HIDDEN": "128,64", "SHOAL_TRAIN__LATENT": "16"}
    return measure.run_command([sys.executable, "-m", "jobs", "train", "--day", str(DAY)], environment)


def write(lake: str, n_customers: int) -> None:
    """Write a table features.customers of the day."""
    table = table_path(lake, TABLE)
    names = [f"feature_{number}" for number in range(FEATURES)]
    properties = {NAMES_PROPERTY: json.dumps(names), ATTRIBUTES_PROPERTY: "[]"}
    for start in range(0, n_customers, 100_000):
        features = generate_features(min(100_000, n_customers - start), seed=start + 1)
        offsets = np.arange(0, features.size + 1, FEATURES, dtype=np.int32)
        rows = {
            "customer_id": [f"customer-{number}" for number in range(start, start + len(features))],
            "is_active": np.ones(len(features), bool),
            "vector": pa.ListArray.from_arrays(offsets, pa.array(features.ravel().astype(np.float64))),
            "day": pa.array([DAY] * len(features)),
        }
        write_deltalake(table, pa.table(rows), partition_by=["day"], mode="append")
    DeltaTable(table).alter.set_table_properties(properties, raise_if_not_exists=False)


def generate_features(n: int, seed: int) -> np.ndarray:
    """Return float32 features (n, FEATURES) of customers of KINDS kinds, which differ in TRAITS traits."""
    random, fixed_random = np.random.default_rng(seed), np.random.default_rng(7)
    kinds = 2 * fixed_random.normal(size=(KINDS, TRAITS))
    mixing = fixed_random.normal(size=(TRAITS, FEATURES)) / np.sqrt(TRAITS)
    traits = (kinds[random.integers(KINDS, size=n)] + random.normal(size=(n, TRAITS))).astype(np.float32)
    features = np.tanh(traits @ mixing.astype(np.float32)) + 0.2 * random.normal(size=(n, FEATURES)).astype(np.float32)
    features[:, ::3] = np.exp(2 * features[:, ::3])
    return features.astype(np.float32)


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
