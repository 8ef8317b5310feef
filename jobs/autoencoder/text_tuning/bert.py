"""The encoder of BERT (Devlin et al., NAACL 2019), its weights named as in the files of the transformers library."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The sizes of a network."""

    words: int
    positions: int
    types: int
    hidden: int
    inner: int
    layers: int
    heads: int
    epsilon: float = 1e-12
    dropout: float = 0.1


class Encoder(nn.Module):
    """Tokens to one vector each; `layers` are those of `encoder.layer`, lowest first."""

    def __init__(self, shape: Shape):
        super().__init__()
        hidden, self.shape = shape.hidden, shape
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(shape.words, hidden),
                "position_embeddings": nn.Embedding(shape.positions, hidden),
                "token_type_embeddings": nn.Embedding(shape.types, hidden),
                "LayerNorm": nn.LayerNorm(hidden, shape.epsilon),
            }
        )
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(shape) for _ in range(shape.layers))})

    @property
    def layers(self) -> nn.ModuleList:
        return self.encoder["layer"]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return (n_texts, n_tokens, n_hidden) from three arrays (n_texts, n_tokens); the mask is 0 for padding."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        words = self.embeddings["word_embeddings"](input_ids) + self.embeddings["token_type_embeddings"](token_type_ids)
        states = self.embeddings["LayerNorm"](words + self.embeddings["position_embeddings"](positions))
        is_token = attention_mask[:, None, None, :].bool()
        for layer in self.layers:
            states = layer(states, is_token)
        return states

    def train_top(self, n_layers: int) -> list[nn.Parameter]:
        """Freeze all but the top `n_layers`, of which the weights are returned; more than there are means all layers."""
        self.requires_grad_(False)
        top = self.layers[max(0, len(self.layers) - n_layers) :]
        return list(top.requires_grad_(True).parameters())

    def train(self, mode: bool = True) -> "Encoder":
        """Set the mode; a frozen layer never drops anything out."""
        super().train(mode)
        for layer in self.layers:
            layer.train(mode and all(weight.requires_grad for weight in layer.parameters()))
        return self


class Layer(nn.Module):
    """Attention between the tokens of a text, then a network over each token, each with a residual connection."""

    def __init__(self, shape: Shape):
        super().__init__()
        hidden, self.heads = shape.hidden, shape.heads
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in ("query", "key", "value")}),
                "output": _residual(hidden, shape),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, shape.inner)})
        self.output = _residual(shape.inner, shape)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, states: Tensor, is_token: Tensor) -> Tensor:
        heads = [
            self.attention["self"][name](states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        ]
        context = functional.scaled_dot_product_attention(*heads, attn_mask=is_token).transpose(1, 2).flatten(2)
        states = self._add(states, context, self.attention["output"])
        return self._add(states, functional.gelu(self.intermediate["dense"](states)), self.output)

    def _add(self, states: Tensor, change: Tensor, residual: nn.ModuleDict) -> Tensor:
        return residual["LayerNorm"](states + self.dropout(residual["dense"](change)))


def _residual(n_inputs: int, shape: Shape) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(n_inputs, shape.hidden), "LayerNorm": nn.LayerNorm(shape.hidden, shape.epsilon)})


def mean_of_tokens(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean of each text's tokens (n_texts, n_hidden), scaled to length 1."""
    weights = attention_mask.unsqueeze(-1).to(states.dtype)
    return functional.normalize((states * weights).sum(1) / weights.sum(1).clamp(min=1), dim=-1)
