"""The next item of a user: `python benchmarks/next_items.py --data FILE`, compared with three baselines.

FILE is a log of interactions with a user, an item and a time (CSV or Parquet; --user, --item and --time name its columns; times
are ISO or seconds). Run it with the Python of the training environment, .venv/train/bin/python.

Split by one moment for all users: the time before which --train-share of the events happened. What came before is learned from.
A user is tested who has two events or more before it and one after: the first event after it is to be ranked first among ALL
items seen before it (full ranking, nothing sampled, items of the past included). A test item that was not seen before is
a miss for every method. Repeated events of the same user and item in a row count as one.

HR@10 is the share of users whose item is among the ten first, NDCG@10 the mean of 1 / log2(rank + 1). The intervals are of 200
bootstrap resamples of the users. The encoder is that of jobs/autoencoder, its next-event head over products; settings are the
defaults of jobs/config/settings.py but for the products (all that are seen twice) and --steps.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import torch
from scipy import sparse

from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.customers import hash_ids, split_customers
from jobs.autoencoder.sequence_training import fit_sequence_encoder
from jobs.config.settings import Sequence, Settings
from jobs.event_sequences import TEXTS, Sequences, fit_vocabulary, pad_codes

TOP = 10
RESAMPLES = 200
_USERS_AT_ONCE = 256
_SEED = 17


def main(argv: list[str] | None = None) -> int:
    """Print a line for each method and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, type=Path, help="log as .csv or .parquet")
    for name in ("user", "item", "time"):
        parser.add_argument(f"--{name}", default=name, help=f"column of the {name}")
    parser.add_argument("--train-share", type=float, default=0.8)
    parser.add_argument("--max-users", type=int, default=100_000, help="a random sample of so many users")
    parser.add_argument("--steps", type=int, default=3000, help="batches of the training at most")
    parser.add_argument("--encoder", default="gru", choices=("gru", "transformer"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    log = read_log(options)
    split = split_by_time(log, options.train_share)
    print(f"{options.data.name}: {len(log)} events, {split.n_items} items, {len(split.targets)} users to test", flush=True)
    methods = {"popularity": rank_by_popularity, "Markov chain": rank_by_transitions, "ALS": rank_by_als}
    methods[f"sequence encoder ({options.encoder})"] = lambda s: rank_by_encoder(s, options)
    for name, method in methods.items():
        started = time.perf_counter()
        print(f"{name:<32}{describe(rank_targets(split, method(split)))}  {time.perf_counter() - started:6.0f} s", flush=True)
    return 0


def read_log(options: argparse.Namespace) -> pa.Table:
    """Return the events (user, item, time in microseconds) in the order of user and time, without repetitions in a row."""
    columns = [options.user, options.item, options.time]
    if options.data.suffix == ".csv":
        convert = pyarrow.csv.ConvertOptions(include_columns=columns, column_types={n: pa.string() for n in columns[:2]})
        rows = pyarrow.csv.read_csv(options.data, convert_options=convert)
    else:
        rows = pyarrow.parquet.read_table(options.data, columns=columns)
    rows = rows.rename_columns(["user", "item", "time"]).drop_null()
    at = rows["time"]
    if pa.types.is_string(at.type):
        at = pc.strptime(pc.utf8_slice_codeunits(pc.replace_substring(at, "T", " "), 0, 19), "%Y-%m-%d %H:%M:%S", "us")
    is_time = pa.types.is_timestamp(at.type)
    at = at.cast(pa.timestamp("us")).cast(pa.int64()) if is_time else pc.multiply(at.cast(pa.int64()), 1_000_000)
    rows = rows.set_column(2, "time", at).set_column(0, "user", rows["user"].cast(pa.string()))
    users = pc.unique(rows["user"]).to_numpy(zero_copy_only=False)
    if len(users) > options.max_users:
        sample = np.random.default_rng(_SEED).choice(np.sort(users.astype(str)), options.max_users, replace=False)
        rows = rows.filter(pc.is_in(rows["user"], pa.array(sample)))
    rows = rows.set_column(1, "item", rows["item"].cast(pa.string())).sort_by([("user", "ascending"), ("time", "ascending")])
    user, item = (rows[name].to_numpy(zero_copy_only=False) for name in ("user", "item"))
    is_new = np.append(True, (user[1:] != user[:-1]) | (item[1:] != item[:-1]))
    return rows.filter(pa.array(is_new))


class Split:
    """The log before a moment as items by user, and the first item of each tested user after it."""

    def __init__(self, users: pa.Array, user: np.ndarray, item: np.ndarray, at: np.ndarray, items: pa.Array):
        """`user` and `item` are places in `users` and `items` of the events before the moment, in the order of user and time."""
        self.users, self.user, self.item, self.at, self.items = users, user, item, at, items
        self.n_items = len(items)
        self.offsets = np.searchsorted(user, np.arange(len(users) + 1))
        self.testers = np.zeros(0, np.int64)  # places of users
        self.targets = np.zeros(0, np.int64)  # places of items, -1 for one that was not seen before

    @property
    def last_items(self) -> np.ndarray:
        """The last item of each tested user before the moment."""
        return self.item[self.offsets[self.testers + 1] - 1]


def split_by_time(log: pa.Table, train_share: float) -> Split:
    """Return the split at the moment before which `train_share` of the events happened."""
    at = log["time"].to_numpy()
    is_before = at < np.quantile(at, train_share)
    before, after = log.filter(pa.array(is_before)), log.filter(pa.array(~is_before))
    users, items = before["user"].combine_chunks().unique(), before["item"].combine_chunks().unique()
    user, item = (pc.index_in(before[name], values).to_numpy() for name, values in (("user", users), ("item", items)))
    split = Split(users, user.astype(np.int64), item.astype(np.int64), before["time"].to_numpy(), items)
    names = after["user"].to_numpy(zero_copy_only=False)
    firsts = after.filter(pa.array(np.append(True, names[1:] != names[:-1])))
    tester = pc.fill_null(pc.index_in(firsts["user"], users), -1).to_numpy()
    is_tested = (tester >= 0) & (np.diff(split.offsets)[tester] >= 2)
    split.testers = tester[is_tested].astype(np.int64)
    split.targets = pc.fill_null(pc.index_in(firsts["item"], items), -1).to_numpy()[is_tested].astype(np.int64)
    return split


Scores = Callable[[slice], np.ndarray]
"""Rows of the tested users -> their scores of all items (n_users, n_items)."""


def rank_targets(split: Split, scores: Scores) -> np.ndarray:
    """Return the rank of each tested user's item from 1; half of the items with the same score come before it. 0: not seen."""
    ranks = np.zeros(len(split.targets))
    for start in range(0, len(ranks), _USERS_AT_ONCE):
        rows = slice(start, start + _USERS_AT_ONCE)
        targets, values = split.targets[rows], scores(rows)
        own = values[np.arange(len(targets)), targets][:, None]
        ranks[rows] = np.where(targets < 0, 0, 1 + (values > own).sum(axis=1) + ((values == own).sum(axis=1) - 1) / 2)
    return ranks


def describe(ranks: np.ndarray) -> str:
    """Return HR@10 and NDCG@10 with 95 % intervals."""
    hits = (ranks > 0) & (ranks <= TOP)
    gains = np.where(hits, 1 / np.log2(np.maximum(ranks, 1) + 1), 0)
    draws = np.random.default_rng(_SEED).integers(0, len(ranks), (RESAMPLES, len(ranks)))
    texts = []
    for name, values in (("HR@10", hits.astype(float)), ("NDCG@10", gains)):
        low, high = np.quantile([values[draw].mean() for draw in draws], (0.025, 0.975))
        texts.append(f"{name} {values.mean():.4f} ({low:.4f} to {high:.4f})")
    return "  ".join(texts)


def rank_by_popularity(split: Split) -> Scores:
    """Score items by their events."""
    counts = np.bincount(split.item, minlength=split.n_items).astype(np.float32)
    return lambda rows: np.tile(counts, (len(split.targets[rows]), 1))


def rank_by_transitions(split: Split) -> Scores:
    """Score items by how often they follow the user's last item; popularity decides between those that never did."""
    is_next = split.user[1:] == split.user[:-1]
    pairs = (split.item[:-1][is_next], split.item[1:][is_next])
    counts = sparse.csr_matrix((np.ones(len(pairs[0]), np.float32), pairs), (split.n_items,) * 2)
    popularity = np.bincount(split.item, minlength=split.n_items) / (len(split.item) + 1)
    return lambda rows: counts[split.last_items[rows]].toarray() + popularity


def rank_by_als(split: Split, factors: int = 64, rounds: int = 12, weight: float = 20.0, regularisation: float = 0.1) -> Scores:
    """Score items by implicit-feedback ALS (Hu et al. 2008): confidence 1 + weight x log(1 + events)."""
    shape = (len(split.users), split.n_items)
    counts = sparse.csr_matrix((np.ones(len(split.item), np.float32), (split.user, split.item)), shape)
    counts.sum_duplicates()
    counts.data = weight * np.log1p(counts.data)
    rng = np.random.default_rng(_SEED)
    item_factors = 0.1 * rng.standard_normal((split.n_items, factors)).astype(np.float32)
    by_item = counts.T.tocsr()
    for _ in range(rounds):
        user_factors = _solve(counts, item_factors, regularisation)
        item_factors = _solve(by_item, user_factors, regularisation)
    user_factors = _solve(counts, item_factors, regularisation)
    return lambda rows: user_factors[split.testers[rows]] @ item_factors.T


def _solve(confidence: sparse.csr_matrix, fixed: np.ndarray, regularisation: float) -> np.ndarray:
    gram = fixed.T @ fixed + regularisation * np.eye(fixed.shape[1], dtype=np.float32)
    solved = np.zeros((confidence.shape[0], fixed.shape[1]), np.float32)
    for row in np.flatnonzero(np.diff(confidence.indptr)):
        of_row = slice(confidence.indptr[row], confidence.indptr[row + 1])
        own, extra = fixed[confidence.indices[of_row]], confidence.data[of_row]
        solved[row] = np.linalg.solve(gram + (own.T * extra) @ own, ((1 + extra)[:, None] * own).sum(axis=0))
    return solved


def rank_by_encoder(split: Split, options: argparse.Namespace) -> Scores:
    """Score items by the next-event head of the sequence encoder, trained on the events before the moment."""
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        seen_twice = int((np.bincount(split.item, minlength=split.n_items) > 1).sum())
        own = Sequence(encoder=options.encoder, max_steps=options.steps, epochs=60, products=seen_twice)
        settings = Settings(lake="", models=folder, reports="", source="", input="", sequence=own)
        sequences = _to_sequences(split, own.max_events)
        vocabulary = fit_vocabulary(sequences, seen_twice)
        codes = vocabulary.encode(sequences)
        is_long = sequences.lengths >= 2
        splits = {name: rows[is_long[rows]] for name, rows in split_customers(hash_ids(split.users)).items()}
        splits["train"] = np.concatenate([splits["train"], splits["test"]])  # tested is what came after the moment
        checkpoint = CheckpointFile(folder, "next_items", 1e9)
        model, epochs = fit_sequence_encoder(settings, vocabulary.sizes, codes, sequences, splits, checkpoint, lambda _: None)
    print(f"  {len(epochs)} epochs, validation {min(epoch['validation'] for epoch in epochs):.3f}", flush=True)
    code_of_item = pc.fill_null(pc.index_in(split.items, pa.array(vocabulary.product_id)), -1).to_numpy() + 2

    @torch.no_grad()
    def score(rows: slice) -> np.ndarray:
        testers = split.testers[rows]
        lengths = sequences.lengths[testers]
        states = model.compute_states(torch.from_numpy(pad_codes(codes, sequences.offsets[testers], lengths)))
        last = states[torch.arange(len(testers)), torch.from_numpy(lengths - 1)]
        return model.predict_codes(last)[TEXTS.index("product_id")].numpy()[:, code_of_item]

    return score


def _to_sequences(split: Split, max_events: int) -> Sequences:
    lengths = np.diff(split.offsets)
    kept = np.repeat(split.offsets[1:], lengths) - np.arange(len(split.item)) <= max_events
    n = int(kept.sum())
    empty = pa.array([None] * n, pa.string()).dictionary_encode()
    views = pa.array(["view"] * n).dictionary_encode()
    products = split.items.take(pa.array(split.item[kept])).dictionary_encode()
    texts = dict.fromkeys(TEXTS, empty) | {"event_type": views, "product_id": products}
    offsets = np.concatenate([[0], np.cumsum(np.minimum(lengths, max_events))])
    return Sequences(split.users, offsets, split.at[kept], texts, np.full(n, np.nan))


if __name__ == "__main__":
    sys.exit(main())
