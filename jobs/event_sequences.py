"""The events of customers in order as of a day, as numbers, and the exported encoder that makes a vector of them.

Read from features.event_sequences: in the environment of training, which has no Polars, and in that of the jobs.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.compute as pc

from jobs.concurrency import count_threads
from jobs.errors import UserError
from jobs.storage.delta import is_written, list_days, table_path
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

TABLE = Table(
    "features.event_sequences",
    "The events of customers in order.",
    """customer_id STRING, day DATE, identified_on DATE, known_until DATE, n_events INT, last_event_at TIMESTAMP,
       fingerprint BIGINT, events ARRAY<STRUCT<event_at: TIMESTAMP, event_type: STRING, product_id: STRING, category: STRING,
       channel: STRING, amount: DOUBLE>>""",
    partition="day",
)
RECORDS = Table("clean.customers", "Which account is part of which.", "customer_id STRING, day DATE, merged_into STRING")
_SUMMARY = ("customer_id", "day", "identified_on", "known_until", "n_events", "last_event_at", "fingerprint")
TEXTS = ("event_type", "product_id", "category", "channel")
CONTENTS = ("product_id", "category")  # what an event is about
RETURNS = tuple(f"{name}_return" for name in CONTENTS)  # how many events ago there was the same
FIELDS = (*TEXTS, "amount", "gap", "visit", *RETURNS)  # of an event, in the order of its codes
ORDER = ("event_type", "visit", *RETURNS)  # the fields that the vector sees, see jobs/autoencoder/sequence_model.py
_GAP, _VISIT = (FIELDS.index(name) for name in ("gap", "visit"))
MISSING, RARE = 0, 1  # the first codes of a field of text: no value, and a value that is not in the vocabulary
# A gap is the time since the event before, in seconds; the first event of a sequence has code 0.
GAP_EDGES = (10, 60, 600, 3600, 6 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 14 * 86_400, 30 * 86_400, 90 * 86_400)
NEW_VISIT_SECONDS = 1800  # a visit goes on, code 1, or after a gap of so long a new one begins, code 2
# A return counts the events since the last one about the same; code 1: there was none.
RETURN_EDGES = (2, 3, 5, 9, 17)
AMOUNT_BUCKETS = 10
_SIZES_AFTER_AMOUNT = (len(GAP_EDGES) + 2, 3, *[len(RETURN_EDGES) + 3] * len(RETURNS))  # of gap, visit and returns
_MAX_CATEGORIES, _MAX_CHANNELS = 200, 30
_EVENTS_PER_BATCH = 8_192  # events of a batch with their padding: what is computed of them fits into the cache of a core
GOLDEN_TOLERANCE = 1e-4  # absolute and relative, between the vectors of the training environment and of this one
VOCABULARY_KEY = "shoal.vocabulary"  # in the metadata of the ONNX file


@dataclass(frozen=True)
class Sequences:
    """The last events of n customers in order; those of customer i are the rows offsets[i] to offsets[i + 1]."""

    ids: pa.Array  # (n,) customers
    offsets: np.ndarray  # (n + 1,) int64
    event_at: np.ndarray  # (n_events,) int64, microseconds since 1970
    texts: dict[str, pa.DictionaryArray]  # (n_events,) by TEXTS
    amount: np.ndarray  # (n_events,) float64, NaN = none

    @property
    def lengths(self) -> np.ndarray:
        """The number of events of each customer (n,)."""
        return np.diff(self.offsets)


def read_owners(lake: str, day: date) -> dict[str, str]:
    """Return whose account each account is as of a day, where it is part of another one (clean.customers, merged_into)."""
    if not is_written(table_path(lake, RECORDS.name)):
        return {}
    merged = read_rows(lake, Rows(RECORDS, "customer_id", where=pc.field("merged_into").is_valid() & (pc.field("day") <= day)))
    versions = read_rows(lake, Rows(RECORDS, "customer_id", only=merged["customer_id"].combine_chunks().unique()))
    into: dict[str, str] = {}
    for version in sorted(versions.to_pylist(), key=lambda row: (row["day"], row["merged_into"] is not None)):
        if version["day"] <= day:
            into[version["customer_id"]] = version["merged_into"]
    into = {account: target for account, target in into.items() if target is not None}
    owners = {}
    for account, target in into.items():
        while target in into and target != account:
            target = into[target]
        owners[account] = target
    return owners


def days_until(lake: str, day: date) -> list[date]:
    """Return the days of features.event_sequences up to `day`; none where it was not written."""
    return [stored for stored in list_days(lake, TABLE.name) if stored <= day]


def is_known(day: date) -> pc.Expression:
    """Return the condition that a row is known on `day`."""
    return (pc.field("identified_on") <= day) & (pc.field("known_until") > day)


def read_summaries(lake: str, day: date) -> pa.Table:
    """Return one row per customer with an event known on `day`: customer_id, n_events, last_event_at, fingerprint.

    Sorted by customer. Only these small columns are read. The fingerprint differs where the events do.
    """
    rows = read_rows(lake, Rows(TABLE, "customer_id", _SUMMARY, days_until(lake, day), where=is_known(day)))
    rows = rows.set_column(0, "customer_id", name_owners(rows["customer_id"], read_owners(lake, day)))
    sums = rows.group_by("customer_id").aggregate([("n_events", "sum"), ("last_event_at", "max"), ("fingerprint", "sum")])
    return sums.rename_columns(["customer_id", "n_events", "last_event_at", "fingerprint"]).sort_by("customer_id")


def name_owners(ids: pa.ChunkedArray, owners: Mapping[str, str]) -> pa.ChunkedArray:
    """Return the accounts that these accounts are part of, or themselves."""
    if not owners:
        return ids
    place = pc.index_in(ids, pa.array(list(owners), pa.string()))
    return pc.coalesce(pc.take(pa.array(list(owners.values()), pa.string()), place), ids)


def find_owners(rows: pa.Table, owners: Mapping[str, str]) -> pa.Array:
    """Return the key of rows of features.event_sequences: the customer whose account it is."""
    return name_owners(rows["customer_id"], owners)


def read_event_sequences(lake: str, day: date, ids: pa.Array, max_events: int) -> Sequences:
    """Return the last `max_events` events of these customers as of `day`, in the order of `ids`."""
    owners = read_owners(lake, day)
    parts = [account for account, owner in owners.items()]
    only = pa.concat_arrays([ids.cast(pa.string()), pa.array(parts, pa.string())])
    rows = read_rows(lake, Rows(TABLE, "customer_id", None, days_until(lake, day), only, where=is_known(day)))
    return to_sequences(rows, ids, max_events, owners)


def to_sequences(rows: pa.Table, ids: pa.Array, max_events: int, owners: Mapping[str, str] | None = None) -> Sequences:
    """Return the last `max_events` events of `ids` out of rows of features.event_sequences, whatever order they are in."""
    customer = pc.index_in(name_owners(rows["customer_id"], owners or {}), ids)
    rows = rows.append_column("customer", customer).filter(pc.is_valid(customer))
    rows = rows.sort_by([(name, "ascending") for name in ("customer", "day", "identified_on", "known_until")])
    rows = rows.filter(pa.array(_is_recent(rows, max_events)))
    n_events = rows["n_events"].to_numpy().astype(np.int64)
    customers = np.repeat(rows["customer"].to_numpy().astype(np.int64), n_events)
    events = rows["events"].combine_chunks()
    struct = events.flatten() if isinstance(events, pa.ListArray) else pa.concat_arrays([c.flatten() for c in events.chunks])
    event_at = struct.field("event_at").cast(pa.int64()).to_numpy(zero_copy_only=False)
    order = np.lexsort((event_at, customers))  # stable
    counts = np.bincount(customers, minlength=len(ids))
    ends = np.cumsum(counts)
    kept = order[np.repeat(ends, counts) - np.arange(len(order)) <= max_events]
    texts = {name: struct.field(name).dictionary_encode().take(pa.array(kept)) for name in TEXTS}
    amount = struct.field("amount").to_numpy(zero_copy_only=False).astype(np.float64)[kept]
    offsets = np.concatenate([[0], np.cumsum(np.minimum(counts, max_events))])
    return Sequences(ids, offsets, event_at[kept], texts, amount)


def _is_recent(rows: pa.Table, max_events: int) -> np.ndarray:
    """Return which rows, in the order of customer and day, may hold one of the last `max_events` events of their customer.

    Rows of one day may interleave, so that a day is kept as a whole.
    """
    n_events = rows["n_events"].to_numpy().astype(np.int64)
    customer, day = rows["customer"].to_numpy(), rows["day"].cast(pa.int32()).to_numpy()
    if not len(n_events):
        return np.zeros(0, bool)
    total = np.cumsum(n_events)
    ends = np.flatnonzero(np.append((customer[1:] != customer[:-1]) | (day[1:] != day[:-1]), True))
    last_of_customer = np.flatnonzero(np.append(customer[1:] != customer[:-1], True))
    rows_per_day = np.diff(ends, prepend=-1)
    rows_per_customer = np.diff(last_of_customer, prepend=-1)
    events_of_later_days = np.repeat(total[last_of_customer], rows_per_customer) - np.repeat(total[ends], rows_per_day)
    return events_of_later_days < max_events


@dataclass(frozen=True)
class Vocabulary:
    """What the codes of the events stand for, fitted on the customers of a training."""

    event_type: list[str]
    product_id: list[str]
    category: list[str]
    channel: list[str]
    amount_edges: list[float]  # ascending

    @property
    def sizes(self) -> list[int]:
        """The number of codes of each of FIELDS."""
        return [*(len(getattr(self, name)) + 2 for name in TEXTS), len(self.amount_edges) + 2, *_SIZES_AFTER_AMOUNT]

    def encode(self, sequences: Sequences) -> np.ndarray:
        """Return the codes of the events (n_events, n_fields) int32: MISSING, RARE, then the places in the vocabulary plus 2."""
        codes = np.zeros((len(sequences.event_at), len(FIELDS)), np.int32)
        for column, name in enumerate(TEXTS):
            codes[:, column] = _encode_texts(sequences.texts[name], getattr(self, name))
        amounts = np.searchsorted(self.amount_edges, sequences.amount, side="right") + 1
        codes[:, FIELDS.index("amount")] = np.where(np.isnan(sequences.amount), MISSING, amounts)
        gaps = np.diff(sequences.event_at, prepend=0) // 1_000_000
        codes[:, _GAP] = np.searchsorted(GAP_EDGES, gaps, side="right") + 1
        codes[:, _VISIT] = np.where(gaps >= NEW_VISIT_SECONDS, 2, 1)
        firsts = sequences.offsets[:-1][sequences.lengths > 0]
        codes[firsts, _GAP] = codes[firsts, _VISIT] = MISSING
        customers = np.repeat(np.arange(len(sequences.lengths)), sequences.lengths)
        for content, field in zip(CONTENTS, RETURNS, strict=True):
            codes[:, FIELDS.index(field)] = _encode_returns(sequences.texts[content], customers)
        return codes


def _encode_texts(texts: pa.DictionaryArray, vocabulary: list[str]) -> np.ndarray:
    place = pc.fill_null(pc.index_in(texts.dictionary, pa.array(vocabulary, pa.string())), RARE - 2)
    codes = np.append(place.to_numpy(zero_copy_only=False).astype(np.int32) + 2, MISSING).astype(np.int32)
    return codes[pc.fill_null(texts.indices, len(codes) - 1).to_numpy(zero_copy_only=False)]


def _encode_returns(texts: pa.DictionaryArray, customers: np.ndarray) -> np.ndarray:
    """Return the codes of how many events ago each customer had the same text (n_events,); MISSING without a text."""
    values = pc.fill_null(texts.indices, -1).to_numpy(zero_copy_only=False)
    order = np.lexsort((values, customers))  # stable, so events of a customer about the same stay in their order
    is_same = (np.diff(values[order]) == 0) & (np.diff(customers[order]) == 0)
    since = np.zeros(len(values), np.int64)
    since[order[1:][is_same]] = np.diff(order)[is_same]
    codes = np.where(since > 0, np.searchsorted(RETURN_EDGES, since, side="right") + 2, 1)
    return np.where(values < 0, MISSING, codes)


def fit_vocabulary(sequences: Sequences, max_products: int) -> Vocabulary:
    """Return the vocabulary of these customers: of products, categories and channels the most frequent ones."""
    limits = {"event_type": None, "product_id": max_products, "category": _MAX_CATEGORIES, "channel": _MAX_CHANNELS}
    amounts = sequences.amount[~np.isnan(sequences.amount)]
    edges = np.unique(np.quantile(amounts, np.arange(1, AMOUNT_BUCKETS) / AMOUNT_BUCKETS)) if len(amounts) else np.zeros(0)
    return Vocabulary(
        **{name: _list_most_frequent(sequences.texts[name], limit) for name, limit in limits.items()}, amount_edges=edges.tolist()
    )


def _list_most_frequent(texts: pa.DictionaryArray, limit: int | None) -> list[str]:
    counts = {row["values"]: row["counts"] for row in texts.dictionary_decode().value_counts().to_pylist()}
    counts.pop(None, None)
    return sorted(counts, key=lambda text: (-counts[text], text))[:limit]


def pad_codes(codes: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return slices of the codes (n_events, n_fields) as (n, longest, n_fields) int64, padded at the end with 0.

    The first event of a slice has no gap.
    """
    places = np.arange(int(lengths.max(initial=1)))
    is_event = places < lengths[:, None]
    padded = codes[np.where(is_event, starts[:, None] + places, 0)].astype(np.int64) if len(codes) else None
    if padded is None:
        return np.zeros((len(starts), len(places), len(FIELDS)), np.int64)
    padded *= is_event[:, :, None]
    padded[:, 0, [_GAP, _VISIT]] = MISSING
    return padded


def write_vocabulary(vocabulary: Vocabulary) -> str:
    """Return the vocabulary as text for the metadata of an ONNX file."""
    return json.dumps(asdict(vocabulary))


def encode_sequences(content: bytes, sequences: Sequences) -> np.ndarray:
    """Return the vectors of n customers (n, d) float32 by an exported sequence.onnx; a row of NaN for one without events.

    A vector depends on the customer's events alone. Sequences of about one length are encoded together, in as many threads as
    there are. Raises UserError where the file is damaged.
    """
    session = open_encoder(content)
    vocabulary = read_vocabulary(session)
    return run_encoder(session, vocabulary.encode(sequences), sequences.offsets[:-1], sequences.lengths)


def run_encoder(session: onnxruntime.InferenceSession, codes: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the vectors (n, d) float32 of n slices of the codes (n_events, n_fields); a row of NaN for an empty one."""
    vectors = np.full((len(starts), session.get_outputs()[0].shape[1]), np.nan, np.float32)

    def encode(rows: np.ndarray) -> None:
        inputs = {"codes": pad_codes(codes, starts[rows], lengths[rows]), "lengths": lengths[rows].astype(np.int32)}
        vectors[rows] = session.run(["vector"], inputs)[0]

    with ThreadPoolExecutor(count_threads()) as pool:
        list(pool.map(encode, _split_by_length(lengths)))
    return vectors


def _split_by_length(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the places of sequences of about one length, none of 0, in batches of at most _EVENTS_PER_BATCH with padding."""
    order = np.argsort(lengths, kind="stable")
    end = len(order)
    first = int(np.searchsorted(lengths[order], 1))
    while end > first:  # the longest first, so that none is left to one thread at the end
        start = max(first, end - max(1, _EVENTS_PER_BATCH // int(lengths[order[end - 1]])))
        yield order[start:end]
        end = start


@functools.lru_cache(maxsize=2)
def open_encoder(content: bytes) -> onnxruntime.InferenceSession:
    """Return a session of an exported sequence encoder. Raises UserError where the file is damaged, or of other fields."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # each batch is one thread's
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base for what a damaged file can raise
        reason = str(error).splitlines()[0]
        raise UserError(f"models: the sequence encoder cannot be read ({reason}); train again: shoal train --retrain") from None
    if (n_fields := session.get_inputs()[0].shape[2]) != len(FIELDS):
        raise UserError(
            f"models: the sequence encoder reads {n_fields} fields of an event, and events have {len(FIELDS)}: an earlier "
            "version of Shoal made it; train again: shoal train --retrain"
        )
    return session


def read_vocabulary(session: onnxruntime.InferenceSession) -> Vocabulary:
    """Return the vocabulary of an exported sequence encoder."""
    metadata = session.get_modelmeta().custom_metadata_map
    if VOCABULARY_KEY not in metadata:
        raise UserError("models: the sequence encoder lacks its vocabulary; train again: shoal train --retrain")
    return Vocabulary(**json.loads(metadata[VOCABULARY_KEY]))


def require_golden(content: bytes, golden: dict, version: str) -> None:
    """Raise UserError where the encoder does not give the vectors that it gave in the training environment."""
    lengths = np.array([len(events) for events in golden["codes"]])
    codes = np.concatenate([np.array(events, np.int32) for events in golden["codes"]])
    vectors = run_encoder(open_encoder(content), codes, np.cumsum(lengths) - lengths, lengths)
    if not np.allclose(vectors, np.array(golden["vector"]), rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE):
        raise UserError(
            f"encode: model {version}: sequence.onnx differs from the golden rows of meta.json by more than {GOLDEN_TOLERANCE}; "
            "its files are damaged or this onnxruntime computes differently; train again: shoal train --retrain"
        )
