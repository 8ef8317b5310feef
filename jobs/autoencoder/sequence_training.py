"""Train the sequence encoder on the customers of a training, and export it."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.customers import split_customers
from jobs.autoencoder.fitting import select_device, set_threads
from jobs.autoencoder.sequence_examples import SequenceExamples
from jobs.autoencoder.sequence_graph import build_sequence_encoder
from jobs.autoencoder.sequence_losses import sequence_loss, validation_loss
from jobs.autoencoder.sequence_model import SequenceEncoder
from jobs.autoencoder.trainer import Phase, train_phases
from jobs.config.settings import NO_SEQUENCE, Settings
from jobs.errors import UserError
from jobs.event_sequences import (
    FIELDS,
    GOLDEN_TOLERANCE,
    Sequences,
    fit_vocabulary,
    open_encoder,
    pad_codes,
    read_event_sequences,
    read_summaries,
    run_encoder,
)

MIN_CUSTOMERS = 50  # with two events or more in the training and validation part together; from fewer no order can be learned
EPOCH_BATCHES = 200  # a large shop has epochs of a sample of its customers, so that a training can end early
MAX_VALIDATION_CUSTOMERS = 2_000
N_VERIFICATION_ROWS, N_GOLDEN_ROWS = 200, 8
FORMAT = 2  # raise it when the same inputs are to give another encoder

Log = Callable[[str], None]


@dataclass(frozen=True)
class TrainedSequenceEncoder:
    """The encoder as ONNX, its part of meta.json, and the events of all customers of the training, in their order."""

    content: bytes
    meta: dict
    sequences: Sequences


def hash_sequences(settings: Settings, day: date, ids: pa.Array) -> list:
    """Return what the weights of the sequence encoder depend on; an empty list where none is trained."""
    if settings.sequence.encoder == NO_SEQUENCE:
        return []
    summaries = read_summaries(settings.lake, day)
    rows = summaries.filter(pc.is_in(summaries["customer_id"], ids))
    if not rows.num_rows:
        return []
    digest = hashlib.sha256("\0".join(rows["customer_id"].to_pylist()).encode())
    digest.update(rows["fingerprint"].to_numpy().tobytes())
    return [FORMAT, asdict(settings.sequence), digest.hexdigest()]


def train_sequence_encoder(
    settings: Settings, day: date, ids: pa.Array, hashes: np.ndarray, checkpoint: CheckpointFile, log: Log
) -> TrainedSequenceEncoder | None:
    """Train on the events of the customers `ids` (n,), whose `hashes` (n,) decide their split, as of `day`.

    Returns None where the setting is none, and where fewer than MIN_CUSTOMERS have two events. Raises UserError and SystemExit
    as train_phases does.
    """
    if settings.sequence.encoder == NO_SEQUENCE:
        return None
    sequences = read_event_sequences(settings.lake, day, ids, settings.sequence.max_events)
    is_long = sequences.lengths >= 2
    splits = {name: rows[is_long[rows]] for name, rows in split_customers(hashes).items()}
    if len(splits["train"]) + len(splits["validation"]) < MIN_CUSTOMERS or not len(splits["validation"]):
        log(f"no sequence encoder: {int(is_long.sum())} customers have two events or more, {MIN_CUSTOMERS} are needed")
        return None
    vocabulary = fit_vocabulary(select_customers(sequences, splits["train"]), settings.sequence.products)
    codes = vocabulary.encode(sequences)
    set_threads(codes.size)
    log(f"sequences: {settings.sequence.encoder}, {len(codes)} events of {len(ids)} customers, codes {vocabulary.sizes}")
    model, epochs = fit_sequence_encoder(settings, vocabulary.sizes, codes, sequences, splits, checkpoint, log)
    content = build_sequence_encoder(model, vocabulary)
    golden = _verify(model, content, codes, sequences, splits["train"])
    best = min(epochs, key=lambda epoch: epoch["validation"])
    meta = {
        "settings": asdict(settings.sequence),
        "codes": dict(zip(FIELDS, vocabulary.sizes, strict=True)),
        "customers": {name: len(rows) for name, rows in splits.items()},
        "events": len(codes),
        "best_epoch": best["epoch"],
        "validation_loss": best["validation"],
        "epochs": epochs,
        "device": select_device(),
        "golden": golden,
    }
    return TrainedSequenceEncoder(content, meta, sequences)


def select_customers(sequences: Sequences, rows: np.ndarray) -> Sequences:
    """Return the events of some of the customers."""
    lengths = sequences.lengths[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    events = np.repeat(sequences.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
    texts = {name: values.take(pa.array(events)) for name, values in sequences.texts.items()}
    return Sequences(sequences.ids.take(pa.array(rows)), offsets, sequences.event_at[events], texts, sequences.amount[events])


def fit_sequence_encoder(
    settings: Settings,
    sizes: list[int],
    codes: np.ndarray,
    sequences: Sequences,
    splits: dict[str, np.ndarray],
    checkpoint: CheckpointFile,
    log: Log,
) -> tuple[SequenceEncoder, list[dict]]:
    """Train until the validation loss stalls; return the best network, on the CPU, and the epochs as train_phases does."""
    own = settings.sequence
    slices = 2 * own.batch_size
    training = replace(
        settings.train, batch_size=slices, max_steps=own.max_steps, patience=own.patience, learning_rate=own.learning_rate
    )

    def to_examples(rows: np.ndarray, epoch_customers: int | None) -> SequenceExamples:
        return SequenceExamples(codes, sequences.offsets[rows], sequences.lengths[rows], epoch_customers)

    train = to_examples(splits["train"], EPOCH_BATCHES * own.batch_size)
    held_out = to_examples(splits["validation"][:MAX_VALIDATION_CUSTOMERS], None)
    torch.manual_seed(settings.train.seed)
    model = SequenceEncoder(sizes, own).to(select_device())
    validate = partial(validation_loss, model, held_out, slices, settings.train.seed)
    phase = Phase("sequences", sequence_loss(model), own.epochs, own.learning_rate, validate, is_compiled=False)
    epochs = train_phases(model, [phase], [train], training, checkpoint, log)
    return model.cpu().eval(), epochs


def _verify(model: SequenceEncoder, content: bytes, codes: np.ndarray, sequences: Sequences, rows: np.ndarray) -> dict:
    """Return golden rows. Raises UserError where onnxruntime and torch differ by more than GOLDEN_TOLERANCE."""
    rows = rows[:N_VERIFICATION_ROWS]
    starts, lengths = sequences.offsets[rows], sequences.lengths[rows]
    with torch.no_grad():
        expected = model(torch.from_numpy(pad_codes(codes, starts, lengths)), torch.from_numpy(lengths)).numpy()
    vectors = run_encoder(open_encoder(content), codes, starts, lengths)
    if not np.allclose(vectors, expected, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE):
        difference = np.abs(vectors - expected).max()
        raise UserError(
            f"train: sequence.onnx differs by {difference:.1e} from the trained encoder, more than {GOLDEN_TOLERANCE}; "
            "nothing was saved: install the locked library versions (make setup) and train again"
        )
    first = slice(0, N_GOLDEN_ROWS)
    events = [codes[start : start + n].tolist() for start, n in zip(starts[first], lengths[first], strict=True)]
    return {"codes": events, "vector": vectors[first].tolist()}
