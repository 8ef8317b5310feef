"""`python -m benchmarks.publishing`: an ordinary day of a million customers, from their vectors to the tables that BI reads.

The day before is published with the same model, and one of a hundred customers differs between the days. One process is
measured: it segments the day, publishes it and checks the marts. The model is trained on few customers, which does not change
the times.
"""

import argparse
import subprocess
import sys
import tempfile

from benchmarks import measure

CUSTOMERS = 1_000_000
MAX_SECONDS = 30.0
# Runs in the training environment. It writes a model, and its customers on its day and on the next.
PREPARE = """
import json, sys
from datetime import timedelta
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from benchmarks import training
from jobs import catalogue
from jobs.autoencoder.customers import ATTRIBUTES_PROPERTY, NAMES_PROPERTY, TABLE
from jobs.autoencoder.pipeline import run
from jobs.config.settings import Settings, Train
from jobs.storage.delta import table_path
few, lake, root, customers = sys.argv[1:]
properties = {NAMES_PROPERTY: json.dumps(catalogue.VECTOR[: training.FEATURES]), ATTRIBUTES_PROPERTY: "[]"}
training.write(few, 5_000)
DeltaTable(table_path(few, TABLE)).alter.set_table_properties(properties, raise_if_not_exists=False)
settings = Settings(lake=few, models=root, reports="", source="", input="", train=Train(hidden=(128, 64), latent=16, epochs=3))
run(settings, training.DAY, retrain=True)
for number in range(2):
    for start in range(0, int(customers), 100_000):
        n = min(100_000, int(customers) - start)
        values = training.generate_features(n, seed=start + 1)
        if number:
            values[1::100] = training.generate_features(n, seed=start + 2)[1::100]  # not of the dormant, every tenth
        orders = np.abs(values[:, 0]).round().astype(int)
        rows = {
            "customer_id": [f"customer-{number}" for number in range(start, start + n)],
            "day": pa.array([training.DAY + timedelta(days=number)] * n),
            "is_active": np.arange(n) % 10 > 0,
            "tenure_days": pa.array(np.arange(n) % 300),
            "recency_days": pa.array(np.where(np.arange(n) % 10 > 0, 10, 400)),
            "orders_365d": pa.array(orders),
            "net_365d": pa.array(orders, pa.int32()).cast(pa.decimal128(18, 4)),
            "vector": pa.ListArray.from_arrays(
                np.arange(0, values.size + 1, values.shape[1], dtype=np.int32), pa.array(values.ravel())
            ),
        }
        write_deltalake(table_path(lake, TABLE), pa.table(rows), partition_by=["day"], mode="append")
DeltaTable(table_path(lake, TABLE)).alter.set_table_properties(properties, raise_if_not_exists=False)
print(training.DAY, training.DAY + timedelta(days=1))
"""


def main(argv: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publishing", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    arguments = parser.parse_args(argv)
    train = measure.ROOT / ".venv" / "train" / "bin" / "python"
    if not train.exists():
        print(f"publishing: {train} is missing; run: make environments", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        command = [train, "-c", PREPARE, f"{folder}/few", f"{folder}/lake", f"{folder}/models", str(arguments.customers)]
        prepared = subprocess.run(command, cwd=measure.ROOT, stdout=subprocess.PIPE, text=True, check=True)
        first, day = prepared.stdout.split()[-2:]
        environment = {"SHOAL_LAKE": f"{folder}/lake", "SHOAL_MODELS": f"{folder}/models", "SHOAL_REPORTS": f"{folder}/reports"}
        environment |= {"SHOAL_SEGMENT__REPRESENTATION": "learned", "SHOAL_SEGMENT__SAMPLE": "20000"}

        def refresh(day: str, steps: str) -> measure.Run:
            return measure.run_command(
                measure.python_command("-m", "jobs", "refresh", "--day", day, "--steps", steps), environment
            )

        refresh(first, "encode,segment,publish,check_marts")
        refresh(day, "encode")
        run = refresh(day, "segment,publish,check_marts")
    label = f"a day of {arguments.customers:,} customers without retraining"
    measure.log(f"{label}: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in run.steps.items())}")
    measure.check_at_most(f"{label}: segment, publish and their checks, seconds", run.seconds, MAX_SECONDS)
    measure.check_memory(label, run.peak_bytes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
