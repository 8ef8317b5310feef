"""`python -m benchmarks.sequences`: training and encoding customers with so many events each, and a day without new ones.

The events are made: a customer has a few favourite products and a rhythm. The training runs in its own environment,
on one core below 1.7 million events; encoding and the day without events run as `shoal encode` runs them.
"""

import argparse
import json
import subprocess
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import measure
from jobs.config.settings import Settings
from jobs.encoded import sequences
from jobs.event_sequences import TABLE
from jobs.storage import models
from jobs.storage.commits import replace_rows
from jobs.storage.lake import Lake

DAY = date(2026, 3, 31)
FOREVER = date(9999, 12, 31)
DAYS = 10  # with events
PRODUCTS, KINDS = 1000, ("view", "add_to_cart", "purchase", "search")
MAX_TRAINING_SECONDS, MAX_ENCODING_SECONDS, MAX_IDLE_SECONDS = 900, 180, 5
# Runs in the training environment: train on the first customers and write the encoder and its part of meta.json.
TRAIN = """
import json, sys, time
import pyarrow as pa
from datetime import date
from pathlib import Path
from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.customers import hash_ids
from jobs.autoencoder.sequence_training import train_sequence_encoder
from jobs.config.settings import Settings
lake, folder, day, n = sys.argv[1:]
ids = pa.array([f"customer-{number:07d}" for number in range(int(n))])
settings = Settings(lake=lake, models=folder, reports="", source="", input="")
checkpoint = CheckpointFile(folder, "bench", 60.0)
started = time.perf_counter()
trained = train_sequence_encoder(settings, date.fromisoformat(day), ids, hash_ids(ids), checkpoint, lambda text: print(text, file=sys.stderr))
seconds = time.perf_counter() - started
Path(folder, "sequence.onnx").write_bytes(trained.content)
Path(folder, "trained.json").write_text(json.dumps({"meta": trained.meta, "seconds": seconds}))
"""  # noqa: E501


def main(arguments: list[str] | None = None) -> int:
    """Print the figures and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequences", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--trained", type=int, default=100_000, help="customers of the training")
    parser.add_argument("--events", type=int, default=100, help="events of a customer")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        lake = Lake(None, f"{folder}/lake")
        settings = Settings(lake=lake.root, models=f"{folder}/models", reports="", source="", input="")
        write_events(lake, options.customers, options.events)
        trained = _train(lake, Path(folder), options.trained)
        n_epochs = len(trained["meta"]["epochs"])
        size = f"{options.trained:,} customers with {options.events} events"
        measure.check_at_most(f"sequences: train {size}, {n_epochs} epochs, s", trained["seconds"], MAX_TRAINING_SECONDS)
        _save_model(settings, Path(folder), trained["meta"])
        size = f"{options.customers:,} customers with {options.events} events"
        measure.check_at_most(f"sequences: encode {size}, s", _time_encoding(lake, settings, DAY), MAX_ENCODING_SECONDS)
        idle = _time_encoding(lake, settings, DAY + timedelta(days=1))
        measure.check_at_most("sequences: a day without new events, s", idle, MAX_IDLE_SECONDS)
    return 0


def write_events(lake: Lake, n_customers: int, n_events: int) -> None:
    """Write features.event_sequences of DAYS days, and who is known on the last day and the one after."""
    rng = np.random.default_rng(17)
    ids = pa.array([f"customer-{number:07d}" for number in range(n_customers)])
    favourites = rng.integers(0, PRODUCTS, (n_customers, 8))
    for age in range(DAYS):
        day = DAY - timedelta(days=3 * age)
        replace_rows(lake.root, TABLE, _make_day(ids, favourites, day, n_events // DAYS, rng), [day])
    for day in (DAY, DAY + timedelta(days=1)):
        people = pa.table({"customer_id": ids, "day": pa.repeat(pa.scalar(day), n_customers)})
        replace_rows(lake.root, sequences.CUSTOMERS, people, [day])


def _make_day(ids: pa.Array, favourites: np.ndarray, day: date, n_events: int, rng: np.random.Generator) -> pa.Table:
    n, total = len(ids), len(ids) * n_events
    midnight = np.datetime64(day, "us").astype(np.int64)
    at = midnight + np.sort(rng.integers(0, 86_400_000_000, (n, n_events)), axis=1)
    product = np.take_along_axis(favourites, rng.integers(0, favourites.shape[1], (n, n_events)), axis=1).ravel()
    numbers = pa.array(product)
    texts = {
        "event_type": pa.array(KINDS).take(pa.array(rng.integers(0, len(KINDS), total))),
        "product_id": pa.array([f"product-{number}" for number in range(PRODUCTS)]).take(numbers),
        "category": pa.array([f"category-{number % 20}" for number in range(PRODUCTS)]).take(numbers),
        "channel": pa.array(["mail", "search", "direct"]).take(pa.array(rng.integers(0, 3, total))),
    }
    times = pa.array(at.ravel()).cast(pa.timestamp("us", tz="UTC"))
    events = pa.StructArray.from_arrays([times, *texts.values(), pa.array(product / 7.0)], ["event_at", *texts, "amount"])
    columns = {
        "customer_id": ids,
        "day": pa.repeat(pa.scalar(day), n),
        "identified_on": pa.repeat(pa.scalar(day), n),
        "known_until": pa.repeat(pa.scalar(FOREVER), n),
        "n_events": pa.array(np.full(n, n_events, np.int32)),
        "last_event_at": pa.array(at[:, -1]).cast(pa.timestamp("us", tz="UTC")),
        "fingerprint": pa.array(rng.integers(0, 2**60, n)),
        "events": pa.ListArray.from_arrays(pa.array(np.arange(0, total + 1, n_events, dtype=np.int32)), events),
    }
    return pa.table(columns)


def _train(lake: Lake, folder: Path, n_customers: int) -> dict:
    python = measure.ROOT / ".venv" / "train" / "bin" / "python"
    command = [python, "-c", TRAIN, lake.root, folder, str(DAY), str(n_customers)]
    subprocess.run(command, cwd=measure.ROOT, check=True)
    return json.loads((folder / "trained.json").read_text())


def _save_model(settings: Settings, folder: Path, meta: dict) -> None:
    def write(target: Path) -> None:
        (target / models.SEQUENCE).write_bytes((folder / "sequence.onnx").read_bytes())
        (target / "meta.json").write_text(json.dumps({"sequence": meta}))

    models.save_champion(settings.models, "bench", write, DAY, models.FAMILY)


def _time_encoding(lake: Lake, settings: Settings, day: date) -> float:
    started = time.perf_counter()
    sequences.run(lake, settings, day)
    return time.perf_counter() - started


if __name__ == "__main__":
    raise SystemExit(main())
