"""`python -m benchmarks.training`: the training loop against the usual one, and a whole training of a million customers.

The usual loop is torch's DataLoader over single rows with a plain denoising autoencoder of the same widths; ours restores
neighbourhoods, and what its vector tells of a customer himself is solved afterwards. Both see the same customers as often. Then
`shoal train` runs as a user runs it, reading, evaluation and export included, on a table of its own.
Run it with .venv/train/bin/python; `make bench PARTS=training` does.
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
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from deltalake import DeltaTable, write_deltalake
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import measure
from jobs.autoencoder import data, losses, preprocessing
from jobs.autoencoder.checkpoints import Checkpoints
from jobs.autoencoder.examples import Examples
from jobs.autoencoder.loop import Phase, fit
from jobs.autoencoder.model import Autoencoder, Sizes
from jobs.config.policy import Column, Selection
from jobs.config.settings import Train

DAY = date(2026, 3, 31)
FEATURES, TRAITS, KINDS = 96, 12, 8
SETTINGS = Train(hidden=(128, 64), latent=16, batch_size=1024)
COMPARED, HELD_OUT, EPOCHS = 131_072, 10_000, 2
LARGER = 4096  # customers in a batch that a large shop may set
FASTER, OF_GEMM, MINUTES, MATRICES, WORSE = 5.0, 1 / 3, 3.0, 3.0, 1.05


def main(arguments: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=1_000_000, help="of the whole training; 0 for none")
    customers = parser.parse_args(arguments).customers
    _loops()
    if customers:
        _whole(customers)
    return 0


def _loops() -> None:
    """Both loops, ours also with larger batches."""
    torch.set_num_threads(os.cpu_count() or 1)
    points = made(COMPARED + HELD_OUT, seed=1)
    no_codes = np.empty((len(points), 0), dtype=np.int64)
    names = [f"feature_{number}" for number in range(FEATURES)]
    fitted = preprocessing.fit(points, no_codes, names, [Column()] * FEATURES, {}, Selection(1, 1), seed=1)
    seen, unseen = fitted.inputs[:COMPARED], fitted.inputs[COMPARED:]
    examples = Examples.of([seen], SETTINGS.neighbours)
    new = partial(Autoencoder, Sizes.of(FEATURES, SETTINGS), fitted.numbers)

    def trained(learn: Callable[[Autoencoder], None]) -> tuple[Autoencoder, float]:
        learn(new())  # warms up
        model = new()
        return model, EPOCHS * COMPARED / _seconds(partial(learn, model))

    usual, usual_pace = trained(partial(_usual, points=seen))
    with torch.no_grad():
        usual_error = float((_restored(usual, unseen) - unseen).square().mean())
    gemm = _gemm()
    print(f"the usual loop {usual_pace / 1e6:.2f} million customers a second; {gemm / 1e9:.0f} GFLOP/s in GEMM")
    for size in (SETTINGS.batch_size, LARGER):
        model, pace = trained(partial(_ours, examples=examples, settings=replace(SETTINGS, batch_size=size)))
        model.eval().set_own(seen, seen)
        with torch.no_grad():
            error = float(model.squared_errors(unseen).mean())
        sizes = [weights.numel() for weights in model.parameters() if weights.requires_grad and weights.ndim == 2]
        # Forward, to the weights, and to what went in, but for the customers themselves.
        operations = 6 * sum(sizes) - 2 * sizes[0]
        print(f"ours {pace / 1e6:.2f} with batches of {size:,}")
        measure.check_at_least("training: customers a second, ours / the usual loop", pace / usual_pace, FASTER)
        measure.check_at_least("training: share of the machine's GEMM rate", pace * operations / gemm, OF_GEMM)
        measure.check_at_most("training: error on unseen customers, ours / the usual loop", error / usual_error, WORSE)


def _ours(model: Autoencoder, examples: list[Examples], settings: Train) -> None:
    phase = Phase("restore", losses.restoring(model, settings), EPOCHS, settings.learning_rate)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, [phase], examples, settings, Checkpoints(folder, "none", inf), lambda _: None)


def _usual(model: Autoencoder, points: torch.Tensor) -> None:
    weights = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(weights, SETTINGS.learning_rate, weight_decay=SETTINGS.weight_decay)
    steps = EPOCHS * -(-len(points) // SETTINGS.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, SETTINGS.learning_rate, total_steps=steps, pct_start=0.1)
    for _ in range(EPOCHS):
        for (clean,) in DataLoader(TensorDataset(points), SETTINGS.batch_size, shuffle=True):
            swapped = torch.rand_like(clean) < SETTINGS.noise
            noisy = torch.where(swapped, clean[torch.randperm(len(clean))], clean)
            loss = (_restored(model, noisy) - clean).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()


def _restored(model: Autoencoder, points: torch.Tensor) -> torch.Tensor:
    return model.around(model.decoder(model.encoder(points)))


def _gemm() -> float:
    """Operations a second of multiplying 4,096 x 4,096 matrices of float32."""
    a, b = torch.rand(2, 4096, 4096)
    a @ b
    return 2 * 4096**3 / min(_seconds(lambda: a @ b) for _ in range(3))


def _whole(customers: int) -> None:
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        write(f"{folder}/lake", customers)
        few = _train(Path(folder), "few", {"SHOAL_LAKE": f"{folder}/few"})
        run = _train(Path(folder), "all", {"SHOAL_LAKE": f"{folder}/lake"})
    matrices = (run.peak_bytes - few.peak_bytes) / (4 * FEATURES * customers)
    measure.check_at_most(f"training: {customers:,} customers, minutes", run.seconds / 60, MINUTES)
    print(f"peak {run.peak_bytes / 2**30:.2f} GiB, of which {few.peak_bytes / 2**30:.2f} for 1,000 customers too")
    measure.check_at_most("training: memory above that of 1,000 customers, in feature matrices", matrices, MATRICES)


def _train(folder: Path, name: str, environment: dict[str, str]) -> measure.Run:
    if name == "few":
        write(environment["SHOAL_LAKE"], 1_000)
    roots = {"SHOAL_MODELS": f"{folder}/models-{name}", "SHOAL_TRAIN__HIDDEN": "128,64", "SHOAL_TRAIN__LATENT": "16"}
    return measure.run_command([sys.executable, "-m", "jobs", "train", "--day", str(DAY)], {**environment, **roots})


def write(lake: str, customers: int) -> None:
    """A table features.customers of the day."""
    names = [f"feature_{number}" for number in range(FEATURES)]
    properties = {data.NAMES_PROPERTY: json.dumps(names), data.ATTRIBUTES_PROPERTY: "[]"}
    for start in range(0, customers, 100_000):
        values = made(min(100_000, customers - start), seed=start + 1)
        offsets = np.arange(0, values.size + 1, FEATURES, dtype=np.int32)
        rows = {
            "customer_id": [f"customer-{number}" for number in range(start, start + len(values))],
            "is_active": np.ones(len(values), bool),
            "vector": pa.ListArray.from_arrays(offsets, pa.array(values.ravel().astype(np.float64))),
            "day": pa.array([DAY] * len(values)),
        }
        write_deltalake(f"{lake}/{data.TABLE}", pa.table(rows), partition_by=["day"], mode="append")
    DeltaTable(f"{lake}/{data.TABLE}").alter.set_table_properties(properties, raise_if_not_exists=False)


def made(n: int, seed: int) -> np.ndarray:
    """n x FEATURES float32: customers of KINDS kinds, whose traits are bent into features."""
    random, shape = np.random.default_rng(seed), np.random.default_rng(7)
    kinds, mix = 2 * shape.normal(size=(KINDS, TRAITS)), shape.normal(size=(TRAITS, FEATURES)) / np.sqrt(TRAITS)
    traits = (kinds[random.integers(KINDS, size=n)] + random.normal(size=(n, TRAITS))).astype(np.float32)
    features = np.tanh(traits @ mix.astype(np.float32)) + 0.2 * random.normal(size=(n, FEATURES)).astype(np.float32)
    features[:, ::3] = np.exp(2 * features[:, ::3])
    return features.astype(np.float32)


def _seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
