"""The network over a customer's events: a GRU or a causal Transformer, whose mean state becomes the vector.

An event is the sum of the embeddings of its codes. The state after each event also predicts the codes of the next one.

The vector sees only what is in the order: the types of the events, where a visit begins, and how many events ago there was the
same product or category. Features and texts say the rest, such as which products and how much money. Customers differ by that so
much that a vector which sees it says nothing of the order.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.config.settings import Sequence
from jobs.event_sequences import FIELDS, ORDER

HEADS = 2
LAYERS = 2  # of the Transformer; the GRU has one
_DROPOUT = 0.1


class SequenceEncoder(nn.Module):
    """Codes of events (n, length, n_fields), padded at the end, and lengths (n,) -> vectors of length 1 (n, dimension)."""

    def __init__(self, sizes: list[int], settings: Sequence):
        """`sizes` are the numbers of codes of each field."""
        super().__init__()
        width = settings.width
        self.sizes, self.kind = sizes, settings.encoder
        self.embeddings = nn.Parameter(0.1 * torch.randn(sum(sizes), width))  # of all fields, one after the other
        starts = [sum(sizes[:field]) for field in range(len(sizes))]
        self.register_buffer("starts", torch.tensor(starts), persistent=False)
        self.register_buffer("is_order", torch.tensor([int(name in ORDER) for name in FIELDS]), persistent=False)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(_DROPOUT)
        if self.kind == "gru":
            self.gru = nn.GRU(width, width, batch_first=True)
        else:
            self.positions = nn.Parameter(0.1 * torch.randn(settings.max_events, width))
            self.blocks = nn.ModuleList(Block(width) for _ in range(LAYERS))
        self.projection = nn.Linear(width, settings.dimension)
        self.next_event = nn.Linear(width, width)
        self.next_bias = nn.Parameter(torch.zeros(sum(sizes)))

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Return the vectors (n, dimension)."""
        states = self.compute_states(codes * self.is_order)  # the code of no value is 0
        is_event = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
        mean = (states * is_event[:, :, None]).sum(dim=1) / lengths[:, None]
        return functional.normalize(self.projection(mean), dim=1)

    def compute_states(self, codes: Tensor) -> Tensor:
        """Return the state after each event (n, length, width). It depends on no later event, nor on the padding."""
        summed = functional.embedding_bag((codes + self.starts).flatten(end_dim=1), self.embeddings, mode="sum")
        events = self.norm(self.dropout(summed.view(*codes.shape[:2], -1)))
        if self.kind == "gru":
            return self.gru(events)[0]
        states = events + self.positions[: codes.shape[1]]
        for block in self.blocks:
            states = block(states)
        return states

    def predict_codes(self, states: Tensor) -> list[Tensor]:
        """Return the logits of the next event's code of each field (n, n_codes) for states (n, width)."""
        logits = functional.linear(self.next_event(states), self.embeddings, self.next_bias)
        return list(logits.split(self.sizes, dim=1))


class Block(nn.Module):
    """Attention to the events so far and a layer for each event, each added to its normed input (Vaswani et al. 2017)."""

    def __init__(self, width: int):
        super().__init__()
        self.attention_norm, self.layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs, self.outputs = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, states: Tensor) -> Tensor:
        """Return the next states (n, length, width)."""
        n, length, width = states.shape
        parts = self.inputs(self.attention_norm(states)).view(n, length, 3, HEADS, width // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = states + self.dropout(self.outputs(attended.transpose(1, 2).reshape(n, length, width)))
        return states + self.dropout(self.narrow(functional.relu(self.wide(self.layer_norm(states)))))
