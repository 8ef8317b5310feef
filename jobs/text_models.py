"""Models that turn short texts into vectors of length 1: which there are, and how their files are read. Nothing is fetched.

The name of a model holds a hash of all that its vectors depend on, so that vectors of two models are never taken for one's.
"""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from jobs.concurrency import count_threads
from jobs.config.settings import NO_TEXT_MODEL, STATIC_TEXT_MODEL, TUNED_TEXT_MODEL, Settings, Text
from jobs.errors import UserError
from jobs.progress import log
from jobs.storage import models

if TYPE_CHECKING:
    import onnxruntime
    from tokenizers import Tokenizer

MINILM = "minilm"
MINILM_FOLDER = Path(sys.prefix) / "share" / "shoal" / MINILM
GRAPH, TOKENIZER, CONFIG, POOLING, MODULES = (
    "model.onnx",
    "tokenizer.json",
    "config.json",
    "1_Pooling/config.json",
    "modules.json",
)
# The files of wordllama 0.4.0 (MIT), and of all-MiniLM-L6-v2 in int8 (Apache-2.0) as setup/text_models.py unpacks it.
_STATIC_FILES = {
    "weights/l2_supercat_256.safetensors": "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    "tokenizers/l2_supercat_tokenizer_config.json": "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
}
_OWN_MODULES = {"Transformer", "Pooling", "Normalize"}  # of sentence-transformers, that are computed here
_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
_LONGEST = 512  # tokens, where config.json names no limit


class TextModel(Protocol):
    """Turns texts into vectors."""

    name: str
    texts_per_call: int  # that a worker is given at once

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors (n x d float32, of length 1) of n texts, each the same whichever texts are beside it."""


def load_text_model(settings: Settings, day: date) -> TextModel | None:
    """Return the model of the setting text.model for a run of a day; None for "none".

    "tuned" is the champion of the tuned models on the day, and the static one before there is any. Raises UserError for a model
    that is not there or cannot be used.
    """
    text = settings.text
    if text.model == NO_TEXT_MODEL:
        return None
    if text.model == TUNED_TEXT_MODEL:
        entry = models.champion(settings.models, day, models.TEXT_MODELS)
        if entry:
            version = entry["version"]
            files = {n: models.read(settings.models, version, n, models.TEXT_MODELS) for n in (GRAPH, TOKENIZER, CONFIG)}
            return _open_transformer(version, files, text, f"{settings.models}/{models.TEXT_MODELS}/{version}")
        log(f"features: no text model was tuned by {day}; {STATIC_TEXT_MODEL} is used")
    if text.model in (STATIC_TEXT_MODEL, TUNED_TEXT_MODEL):
        return _open_static(text)
    folder = MINILM_FOLDER if text.model == MINILM else Path(text.model)
    if text.model == MINILM and not folder.exists():
        raise UserError(f"features: text.model = {MINILM} is not installed ({folder}). Run: make minilm")
    return _open_transformer(folder.name, _read_folder(folder), text, str(folder))


def _hash(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:8]


def _error(place: str, problem: str) -> UserError:
    return UserError(
        f"features: the text model cannot be used: {problem} ({place}). Restore its files, or set another text.model"
    )


# --- The static model


@dataclass(frozen=True)
class StaticModel:
    """The mean of the vectors of a text's tokens. Every process reads the files of the installed package itself."""

    name: str
    texts_per_call: int = 50_000

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts; about 20 µs of a CPU a short text."""
        from scipy.sparse import csr_matrix  # here, because it takes a third of a second

        weights, tokenizer = _read_static()
        encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        lengths = np.fromiter((len(encoding) for encoding in encodings), np.int64, len(encodings))
        tokens = np.fromiter((token for encoding in encodings for token in encoding.ids), np.int64, lengths.sum())
        ends = np.concatenate([[0], np.cumsum(lengths)])
        # The direction of the sum is that of the mean. The product takes a hundredth of the time of reduceat.
        counts = csr_matrix((np.ones(len(tokens), np.float32), tokens, ends), (len(lengths), len(weights)))
        return normalize_vectors(counts @ weights)


def _open_static(text: Text) -> StaticModel:
    return StaticModel(f"{STATIC_TEXT_MODEL}-{_hash(*_STATIC_FILES.values(), text.max_characters)}")


@functools.lru_cache(maxsize=1)
def _read_static() -> "tuple[np.ndarray, Tokenizer]":
    """Return the vectors of the tokens and the tokenizer. Raises UserError where they are not the pinned ones."""
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("features: the package wordllama, which text.model = static needs, is not installed. Run: make setup")
    folder = Path(spec.submodule_search_locations[0])
    contents = []
    for name, checksum in _STATIC_FILES.items():
        content = (folder / name).read_bytes() if (folder / name).exists() else b""
        if hashlib.sha256(content).hexdigest() != checksum:
            raise UserError(f"features: {name} of the package wordllama is not the pinned file ({folder}). Run: make clean setup")
        contents.append(content)
    weights, tokenizer = contents
    header = 8 + int.from_bytes(weights[:8], "little")
    [tensor] = json.loads(weights[8:header]).values()
    matrix = np.frombuffer(weights, np.float16, offset=header).reshape(tensor["shape"]).astype(np.float32)
    return matrix, _open_tokenizer(tokenizer.decode())


def _open_tokenizer(content: str) -> "Tokenizer":
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if count_threads() > 1 else "false"  # a worker has one CPU
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def normalize_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return n x d vectors with a length of 1; zeros stay zeros.

    >>> normalize_vectors(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return vectors / np.maximum(lengths, 1e-12)[:, None]


# --- Transformers


class _Opened(NamedTuple):
    session: "onnxruntime.InferenceSession"
    tokenizer: "Tokenizer"


@dataclass(frozen=True)
class TransformerModel:
    """An ONNX graph over the tokens of a text. It is sent to worker processes as bytes; each process opens one session."""

    name: str
    graph: bytes
    tokenizer: str
    pooling: str
    max_tokens: int
    texts_per_call: int = 2_500

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts.

        Each is computed alone: an int8 graph scales its numbers by the largest of a batch, so that in a batch a text would have
        another vector.
        """
        opened = _open_graph(self.graph, self.tokenizer, self.max_tokens)
        encodings = opened.tokenizer.encode_batch(list(texts))
        with ThreadPoolExecutor(count_threads()) as pool:
            vectors = list(pool.map(lambda encoding: self._encode_tokens(opened.session, encoding), encodings))
        return normalize_vectors(np.array(vectors, np.float32).reshape(len(texts), -1))

    def _encode_tokens(self, session: "onnxruntime.InferenceSession", encoding) -> np.ndarray:
        values = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
        inputs = {i.name: np.array([values[i.name]], np.int64) for i in session.get_inputs()}
        states = session.run(None, inputs)[0][0]
        if states.ndim == 1:  # the graph pools itself
            return states
        return {"mean": states.mean(axis=0), "cls": states[0], "max": states.max(axis=0)}[self.pooling]


@functools.lru_cache(maxsize=1)
def _open_graph(graph: bytes, tokenizer: str, max_tokens: int) -> _Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # each text is one thread's
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    opened = _open_tokenizer(tokenizer)
    opened.enable_truncation(max_tokens)
    return _Opened(session, opened)


def _open_transformer(label: str, files: dict[str, bytes], text: Text, place: str) -> TransformerModel:
    """Return the model of these files, after it has encoded a text. Raises UserError where it cannot."""
    try:
        config, pooling = json.loads(files[CONFIG]), _find_pooling(files, place)
        max_tokens = min(int(config.get("max_length") or config.get("max_position_embeddings") or _LONGEST), text.max_tokens)
        checksums = [hashlib.sha256(files[name]).hexdigest() for name in (GRAPH, TOKENIZER)]
        name = f"{label}-{_hash(*checksums, pooling, max_tokens, text.max_characters)}"
        model = TransformerModel(name, files[GRAPH], files[TOKENIZER].decode(), pooling, max_tokens)
        vector = model.encode(["blue mug"])
    except UserError:
        raise
    except Exception as error:  # neither onnxruntime nor tokenizers has a common base for what a damaged file can raise
        raise _error(
            place, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        ) from None
    width = config.get("hidden_size")
    if not np.isfinite(vector).all() or (width and vector.shape[1] != width):
        raise _error(place, f"its vectors have {vector.shape[1]} numbers, and {CONFIG} says {width}")
    return model


def _find_pooling(files: dict[str, bytes], place: str) -> str:
    modules = {module["type"].rpartition(".")[2] for module in json.loads(files.get(MODULES, b"[]"))}
    if further := sorted(modules - _OWN_MODULES):
        raise _error(place, f"{MODULES} names {further[0]}, which is not supported")
    if POOLING not in files:
        return json.loads(files[CONFIG]).get("pooling", "mean")
    modes = [key for key, is_used in json.loads(files[POOLING]).items() if key.startswith("pooling_mode_") and is_used is True]
    if len(modes) != 1 or modes[0] not in _MODES:
        raise _error(place, f"{POOLING} asks for {', '.join(modes) or 'no pooling'}, and one of {', '.join(_MODES)} is supported")
    return _MODES[modes[0]]


def _read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder in the layout of sentence-transformers, by name."""
    places = {name: folder / name for name in (TOKENIZER, CONFIG, POOLING, MODULES)}
    places[GRAPH] = folder / GRAPH if (folder / GRAPH).exists() else folder / "onnx" / GRAPH
    try:
        return {name: path.read_bytes() for name, path in places.items() if name not in (POOLING, MODULES) or path.exists()}
    except OSError as error:
        raise _error(str(error.filename), f"a file cannot be read, {error.strerror}") from None
