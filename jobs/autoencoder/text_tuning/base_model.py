"""The model that a tuning starts from: a local folder in the layout of sentence-transformers."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from tokenizers import Tokenizer
from torch import Tensor

from jobs.autoencoder.text_tuning.bert import Encoder, Shape
from jobs.autoencoder.text_tuning.tokens import MASK
from jobs.errors import UserError

CONFIG, TOKENIZER, WEIGHTS, POOLING = "config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"
_NOT_OF_THE_ENCODER = ("pooler.", "cls.", "embeddings.position_ids")  # in some folders, and of no use for mean pooling
_SHAPE = {
    "vocab_size": "words",
    "max_position_embeddings": "positions",
    "type_vocab_size": "types",
    "hidden_size": "hidden",
    "intermediate_size": "inner",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "layer_norm_eps": "epsilon",
    "hidden_dropout_prob": "dropout",
}


@dataclass(frozen=True)
class BaseModel:
    """What the folder holds."""

    name: str  # of the folder
    sha256: str  # of its files
    config: dict  # config.json
    shape: Shape
    tokenizer: bytes  # tokenizer.json
    weights: dict[str, Tensor]

    def build_encoder(self) -> Encoder:
        """Return the network with the weights of the folder."""
        encoder = Encoder(self.shape)
        encoder.load_state_dict(self.weights)
        return encoder


def read_base_model(folder: str) -> BaseModel:
    """Return the model of a folder. Raises UserError, in one line, for one that is missing, damaged or of another kind."""
    if not folder:
        raise UserError("train: tuning.base is not set; name a folder with config.json, tokenizer.json and model.safetensors")
    contents = {name: _read(folder, name) for name in (CONFIG, TOKENIZER, WEIGHTS)}
    config = _parse_json(folder, CONFIG, contents[CONFIG])
    shape = _read_shape(folder, config)
    _require_mean_pooling(folder)
    _check_tokenizer(folder, contents[TOKENIZER], shape)
    digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents.values()))
    weights = _read_weights(folder, contents[WEIGHTS], shape)
    return BaseModel(Path(folder).name, digest.hexdigest(), config, shape, contents[TOKENIZER], weights)


def _read(folder: str, name: str) -> bytes:
    try:
        return (Path(folder) / name).read_bytes()
    except OSError as error:
        raise _error(folder, f"{name} cannot be read ({error.strerror})") from None


def _parse_json(folder: str, name: str, content: bytes) -> dict:
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError):
        raise _error(folder, f"{name} is damaged") from None


def _read_shape(folder: str, config: dict) -> Shape:
    expected = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise _error(folder, f"{CONFIG} has {key} = {config[key]!r}, and only {value!r} can be tuned")
    if missing := sorted(_SHAPE.keys() - config.keys()):
        raise _error(folder, f"{CONFIG} lacks {', '.join(missing)}")
    shape = Shape(**{field: config[key] for key, field in _SHAPE.items()})
    if shape.hidden % shape.heads:
        raise _error(folder, f"{shape.hidden} numbers of a token cannot be shared by {shape.heads} heads, as {CONFIG} says")
    return shape


def _require_mean_pooling(folder: str) -> None:
    if (Path(folder) / POOLING).exists():
        pooling = _parse_json(folder, POOLING, _read(folder, POOLING))
        modes = sorted(key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True)
        if modes != ["pooling_mode_mean_tokens"]:
            raise _error(folder, f"{POOLING} asks for {', '.join(modes) or 'no pooling'}, and only the mean can be tuned")


def _check_tokenizer(folder: str, content: bytes, shape: Shape) -> None:
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the package raises no narrower class
        raise _error(folder, f"{TOKENIZER} is damaged ({error})") from None
    if tokenizer.get_vocab_size() > shape.words:
        raise _error(folder, f"{TOKENIZER} knows {tokenizer.get_vocab_size()} words, the model only {shape.words}")
    if tokenizer.token_to_id(MASK) is None:
        raise _error(folder, f"{TOKENIZER} has no word {MASK}")


def _read_weights(folder: str, content: bytes, shape: Shape) -> dict[str, Tensor]:
    """Return the weights by the names of Encoder, as 32-bit numbers."""
    try:
        stored = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError):
        raise _error(folder, f"{WEIGHTS} is damaged") from None
    weights = {name.removeprefix("bert."): tensor.float() for name, tensor in stored.items()}
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith(_NOT_OF_THE_ENCODER)}
    expected = {name: tensor.shape for name, tensor in Encoder(shape).state_dict().items()}
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights or name not in expected:
            raise _error(folder, f"{WEIGHTS} {'lacks' if name in expected else 'has an unknown'} {name}")
        if weights[name].shape != expected[name]:
            sizes = f"{tuple(weights[name].shape)} and not {tuple(expected[name])}"
            raise _error(folder, f"{name} of {WEIGHTS} is {sizes}, as {CONFIG} says")
    return weights


def _error(folder: str, problem: str) -> UserError:
    advice = "name a folder with a model of the BERT kind in the layout of sentence-transformers"
    return UserError(f"train: {problem} (tuning.base = {folder!r}); {advice}")
