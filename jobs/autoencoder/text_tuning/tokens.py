"""Texts as tokens, and their vectors."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from jobs.autoencoder.text_tuning.bert import Encoder, mean_of_tokens

MASK = "[MASK]"  # the word that stands for a hidden one
TEXTS_TOGETHER = 256  # encoded at a time, of similar length


class TokenizedTexts:
    """Distinct texts, each tokenized once."""

    def __init__(self, tokenizer: bytes, texts: Sequence[str], max_length: int):
        parsed = Tokenizer.from_str(tokenizer.decode())
        parsed.enable_truncation(max_length)
        parsed.no_padding()
        self.ids = [np.array(encoding.ids, np.int64) for encoding in parsed.encode_batch(list(texts))]
        self.places = {text: place for place, text in enumerate(texts)}
        self.mask_id = parsed.token_to_id(MASK)

    def batch(self, places: Sequence[int], device: str) -> tuple[Tensor, Tensor]:
        """Return the token ids and the mask (n_texts, n_tokens) of these texts; 0 stands for padding, which is masked."""
        chosen = [self.ids[place] for place in places]
        ids = np.zeros((len(chosen), max(map(len, chosen))), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(chosen):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)

    def iterate_by_length(self) -> Iterator[np.ndarray]:
        """Yield the places of all texts, TEXTS_TOGETHER at a time, short ones first."""
        order = np.argsort([len(tokens) for tokens in self.ids], kind="stable")
        for start in range(0, len(order), TEXTS_TOGETHER):
            yield order[start : start + TEXTS_TOGETHER]


def encode_batch(encoder: Encoder, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the vectors (n_texts, n_hidden) of tokenized texts."""
    return mean_of_tokens(encoder(ids, mask, torch.zeros_like(ids)), mask)


@torch.no_grad()
def embed(encoder: Encoder, tokenizer: bytes, texts: list[str], max_length: int, device: str) -> np.ndarray:
    """Return the vectors (n, n_hidden) float32 of n texts, of length 1."""
    tokenized = TokenizedTexts(tokenizer, texts, max_length)
    vectors = np.empty((len(texts), encoder.shape.hidden), np.float32)
    encoder.eval()
    for places in tokenized.iterate_by_length():
        vectors[places] = encode_batch(encoder, *tokenized.batch(places, device)).float().cpu().numpy()
    return vectors
