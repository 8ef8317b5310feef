"""`python -m benchmarks.serve`: the HTTP API over a million customers, asked for one after the other by two clients at once.

Each client is a process with a connection of its own, on the same cores as the server. Each customer has values, three outcomes
and ten recommendations. The customers are asked for again while a new publication is loaded.
"""

import argparse
import http.client
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks import measure
from benchmarks.bi import LAST, SEGMENTS, complete_rows, make_customers
from jobs.marts import customer_segments, refreshes, segment_changes, segment_profiles
from jobs.scores import customer_values
from jobs.serve.snapshot import OUTCOMES, RECOMMENDATIONS
from jobs.storage.lake import Lake
from jobs.storage.table import Table

CUSTOMERS, REQUESTS, CLIENTS = 1_000_000, 5_000, 2
PRODUCTS = 20_000
CUSTOMER = "/customers/customer-{:07}"
RECOMMENDATIONS_OF = f"{CUSTOMER}/recommendations"
MAX_P99_MS = 20.0
TOKEN = "a token of the benchmark"  # noqa: S105
NOON = datetime(LAST.year, LAST.month, LAST.day, 12, tzinfo=UTC)


def main(argv: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each client; default: %(default)s")
    arguments = parser.parse_args(argv)
    n = arguments.customers
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        lake = Lake(None, f"{folder}/lake")
        write_lake(lake, n)
        started = time.monotonic()
        process, port = start_server(lake)
        try:
            measure.log(f"serve: {n:,} customers are read and served after {time.monotonic() - started:.1f} s")
            peak = measure.PeakMemory(process)
            label = f"serve: a customer of {n:,}"
            for address in (CUSTOMER, RECOMMENDATIONS_OF):
                report(label, address, ask(port, address, n, arguments.requests))
            publish(lake, 1)
            report(f"{label} as a day is loaded", CUSTOMER, ask(port, CUSTOMER, n, arguments.requests))
            for address in (f"/segments/{SEGMENTS - 1}/customers?limit=100", "/segments"):
                report("serve", address, ask(port, address, n, arguments.requests // 10))
        finally:
            process.terminate()
            process.wait()
        peak.join()
        measure.check_memory(label, peak.all_processes)
    return 0


def report(label: str, address: str, seconds: list[float]) -> None:
    """Print the quantiles of how long answers took; that of a customer has a target."""
    half, most, longest = np.quantile(seconds, [0.5, 0.99, 1]) * 1000
    measure.log(f"{label}: {address}: median {half:.2f} ms, p99 {most:.2f} ms, longest {longest:.1f} ms of {len(seconds):,}")
    if address.startswith(CUSTOMER):
        subject = "recommendations" if address == RECOMMENDATIONS_OF else "the customer"
        measure.check_at_most(f"{label}: {subject}, p99", most, MAX_P99_MS, " ms")


def ask(port: int, address: str, n: int, requests: int) -> list[float]:
    """Return the seconds of each request of all clients, which ask at the same time."""
    with ProcessPoolExecutor(CLIENTS) as clients:
        parts = clients.map(ask_in_turn, *([same] * CLIENTS for same in (port, address, n, requests)), range(CLIENTS))
        return [seconds for part in parts for seconds in part]


def ask_in_turn(port: int, address: str, n: int, requests: int, seed: int) -> list[float]:
    """Ask for customers drawn by chance over one connection; raise RuntimeError for an answer that is no 200."""
    chance, connection, seconds = random.Random(seed), http.client.HTTPConnection("127.0.0.1", port), []  # noqa: S311
    for _ in range(requests):
        path = address.format(chance.randrange(n))
        started = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        answer.read()
        seconds.append(time.perf_counter() - started)
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}")
    return seconds


def start_server(lake: Lake) -> tuple[subprocess.Popen, int]:
    """Return the server once it answers, and its port."""
    command = measure.python_command("-m", "jobs", "serve", "--port", "0")
    environment = os.environ | {"SHOAL_LAKE": lake.root, "SHOAL_SOURCE": "sample", "SHOAL_API_TOKEN": TOKEN}
    process = subprocess.Popen(command, cwd=measure.ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if not line.startswith("serve: http"):
        raise RuntimeError(line)
    return process, int(line.split("/docs")[0].rpartition(":")[2])


def write_lake(lake: Lake, n: int) -> None:
    """Write a publication of n customers."""
    random_numbers = np.random.default_rng(5)
    ids = pl.format("customer-{}", pl.int_range(n, dtype=pl.Int32).cast(pl.String).str.zfill(7))
    customers = pl.select(customer_id=ids).with_columns(day=pl.lit(LAST))
    lake.replace_rows(customer_segments.TABLE, make_customers(n))
    write_scores(lake, customer_values.TABLE, customers.with_columns(pl.lit(0.5).alias("p_alive"), method=pl.lit("mbg_nbd")))
    outcomes = customers.join(pl.DataFrame({"outcome": ["churn", "next_order", "returns"]}), how="cross")
    write_scores(lake, OUTCOMES, outcomes.with_columns(probability=pl.Series(random_numbers.random(len(outcomes)))))
    ranks = customers.join(pl.select(rank=pl.int_range(1, 11, dtype=pl.Int32)), how="cross")
    products = pl.Series(random_numbers.integers(0, PRODUCTS, len(ranks))).cast(pl.String)
    write_scores(
        lake,
        RECOMMENDATIONS,
        ranks.with_columns(product_id="product-" + products, score=1 / pl.col("rank"), method=pl.lit("als")),
    )
    profiles = [
        {"day": LAST, "segment_id": i, "segment_name": f"Segment {i}", "n_customers": n // SEGMENTS} for i in range(SEGMENTS)
    ]
    lake.replace_rows(segment_profiles.TABLE, pa.Table.from_pylist(profiles, segment_profiles.TABLE.arrow_schema))
    lake.create(segment_changes.TABLE)
    publish(lake, 0)


def write_scores(lake: Lake, table: Table, rows: pl.DataFrame) -> None:
    """Write rows of the day; columns that they lack are null."""
    lake.replace_rows(table, complete_rows(table, rows.to_arrow()), [LAST])


def publish(lake: Lake, number: int) -> None:
    """Write the row of marts.refreshes of the tables as they are."""
    names = [table.name for table in (customer_segments.TABLE, segment_profiles.TABLE, segment_changes.TABLE)]
    names += [table.name for table in (customer_values.TABLE, OUTCOMES, RECOMMENDATIONS)]
    facts = {"run_id": f"run {number}", "day": LAST, "finished_at": NOON + timedelta(hours=number)}
    row = refreshes.build_manifest(facts, {}, {name: lake.version(name) for name in names})
    lake.replace_rows(refreshes.TABLE, row)


if __name__ == "__main__":
    sys.exit(main())
