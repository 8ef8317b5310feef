"""A tuned encoder as files that need no torch: model.onnx, tokenizer.json and config.json."""

import io
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from jobs.autoencoder.text_tuning import tokens
from jobs.autoencoder.text_tuning.base_model import BaseModel
from jobs.autoencoder.text_tuning.bert import Encoder, mean_of_tokens
from jobs.errors import UserError

MODEL, TOKENIZER, CONFIG = "model.onnx", "tokenizer.json", "config.json"
TOLERANCE = 1e-4  # absolute, between the vectors of the graph and of torch
N_VERIFIED_TEXTS = 256
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def build_graph(encoder: Encoder) -> bytes:
    """Return an encoder as ONNX, with the inputs and the output of the models of sentence-transformers.

    Inputs: `input_ids`, `attention_mask` and `token_type_ids`, int64 (n_texts, n_tokens). Output: `last_hidden_state`, float32
    (n_texts, n_tokens, n_hidden), of which the mean over the tokens of a text is its vector.
    """
    examples = tuple(torch.full((2, 3), value) for value in (2, 1, 0))  # one tensor given three times would become one input
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names the packages that are not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names of axes that are the same
        program = torch.onnx.export(
            encoder.cpu().eval(),
            examples,
            dynamo=True,
            verbose=False,
            input_names=_INPUTS,
            output_names=["last_hidden_state"],
            dynamic_shapes=[{0: "n_texts", 1: "n_tokens"}] * len(_INPUTS),
        )
    file = io.BytesIO()
    program.save(file)
    return file.getvalue()


class OnnxEncoder:
    """A text model of files, as other steps use it."""

    def __init__(self, graph: bytes, tokenizer: bytes, max_length: int):
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self._tokenizer, self._max_length = tokenizer, max_length

    def embed(self, texts: list[str]) -> np.ndarray:
        """Return the vectors (n, n_hidden) float32 of n texts, of length 1."""
        tokenized = tokens.TokenizedTexts(self._tokenizer, texts, self._max_length)
        width = self._session.get_outputs()[0].shape[-1]
        vectors = np.empty((len(texts), width), np.float32)
        for places in tokenized.iterate_by_length():
            ids, mask = tokenized.batch(places, "cpu")
            arrays = dict(zip(_INPUTS, (ids.numpy(), mask.numpy(), np.zeros_like(ids.numpy())), strict=True))
            [states] = self._session.run(None, arrays)
            vectors[places] = mean_of_tokens(torch.from_numpy(states), mask).numpy()
        return vectors


def write_files(folder: Path, encoder: Encoder, base: BaseModel, max_length: int, texts: list[str]) -> None:
    """Write a tuned model into `folder`; some of `texts` are encoded by its graph and by torch first.

    Raises UserError where the vectors differ by more than TOLERANCE.
    """
    graph, sample = build_graph(encoder), texts[:N_VERIFIED_TEXTS]
    expected = tokens.embed(encoder, base.tokenizer, sample, max_length, "cpu")
    difference = np.abs(OnnxEncoder(graph, base.tokenizer, max_length).embed(sample) - expected).max(initial=0)
    if not difference <= TOLERANCE:
        raise UserError(
            f"train: the vectors of {MODEL} differ by {difference:.1e} from the tuned model's, more than {TOLERANCE}; nothing "
            "was saved: install the locked library versions (make setup) and train again"
        )
    (folder / MODEL).write_bytes(graph)
    (folder / TOKENIZER).write_bytes(base.tokenizer)
    config = base.config | {"pooling": "mean", "max_length": max_length}
    (folder / CONFIG).write_text(json.dumps(config, indent=1))
