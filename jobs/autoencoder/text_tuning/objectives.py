"""What a tuning learns: which name follows a query, or, where there are no searches, which words belong together."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jobs.autoencoder.text_tuning.bert import Encoder
from jobs.autoencoder.text_tuning.pairs import Pairs
from jobs.autoencoder.text_tuning.tokens import TokenizedTexts, encode_batch
from jobs.config.settings import Tuning

MAX_BATCHES = 100  # of an epoch, so that a large shop is validated often enough
MASKED, REPLACED = 0.8, 0.1  # of the hidden tokens, as in BERT; the rest is shown
HIDDEN = 0.15  # of the tokens of a text


@dataclass(frozen=True)
class ContrastiveObjective:
    """The name that followed a query among the names of the batch (Henderson et al., 2017; van den Oord et al., 2018).

    Pairs are drawn as often as they happened, so the other names of a batch are drawn by popularity too, and popularity
    itself is not learned.
    """

    encoder: Encoder
    tokenized: TokenizedTexts
    pairs: Pairs
    settings: Tuning
    device: str
    name = "contrastive"

    @property
    def n_batches(self) -> int:
        return min(MAX_BATCHES, -(-int(self.pairs.counts.sum()) // self.settings.batch_size))

    def draw_batches(self, random: np.random.Generator) -> list[np.ndarray]:
        """Return the pairs of each batch of an epoch."""
        chances = self.pairs.counts / self.pairs.counts.sum()
        drawn = random.choice(len(self.pairs), self.n_batches * self.settings.batch_size, p=chances)
        return np.split(drawn, self.n_batches)

    def loss(self, batch: np.ndarray) -> Tensor:
        """Return the mean loss of a batch; another pair of the same query or name is no wrong answer."""
        queries, query_of = np.unique(self.pairs.queries[batch], return_inverse=True)
        names, name_of = np.unique(self.pairs.names[batch], return_inverse=True)
        query_vectors = self._encode(queries)[torch.from_numpy(query_of)]
        name_vectors = self._encode(names)[torch.from_numpy(name_of)]
        is_same = (query_of[:, None] == query_of) | (name_of[:, None] == name_of)
        np.fill_diagonal(is_same, False)
        similarities = query_vectors @ name_vectors.T / self.settings.temperature
        similarities = similarities.masked_fill(torch.from_numpy(is_same).to(self.device), -torch.inf)
        return functional.cross_entropy(similarities, torch.arange(len(batch), device=self.device))

    def _encode(self, texts: np.ndarray) -> Tensor:
        return encode_batch(self.encoder, *self.tokenized.batch([self.tokenized.places[text] for text in texts], self.device))


@dataclass(frozen=True)
class MaskedObjective:
    """The hidden tokens of a text (Devlin et al., 2019), predicted by the embeddings of the words themselves."""

    encoder: Encoder
    tokenized: TokenizedTexts
    settings: Tuning
    device: str
    name = "masked"

    @property
    def n_batches(self) -> int:
        return min(MAX_BATCHES, -(-len(self.tokenized.ids) // self.settings.batch_size))

    def draw_batches(self, random: np.random.Generator) -> list[np.ndarray]:
        """Return the texts of each batch of an epoch."""
        order = random.permutation(len(self.tokenized.ids))
        return np.array_split(order[: self.n_batches * self.settings.batch_size], self.n_batches)

    def loss(self, batch: np.ndarray) -> Tensor:
        """Return the mean loss of the hidden tokens of a batch; the first and the last token of a text are never hidden."""
        ids, mask = self.tokenized.batch(batch, self.device)
        may_be_hidden = mask.bool() & (functional.pad(mask, (0, 1))[:, 1:] == 1)
        may_be_hidden[:, 0] = False
        chances = torch.rand(2, *ids.shape, device=self.device)
        is_hidden = may_be_hidden & (chances[0] < HIDDEN)
        random_ids = torch.randint(self.encoder.shape.words, ids.shape, device=self.device)
        shown = torch.where(is_hidden & (chances[1] < MASKED), self.tokenized.mask_id, ids)
        shown = torch.where(is_hidden & (chances[1] >= MASKED) & (chances[1] < MASKED + REPLACED), random_ids, shown)
        states = self.encoder(shown, mask, torch.zeros_like(ids))[is_hidden]
        scores = states @ self.encoder.embeddings["word_embeddings"].weight.T
        return functional.cross_entropy(scores, ids[is_hidden], reduction="sum") / max(1, len(states))
