"""A small network for each outcome of conf/outcomes.toml: a contestant that the scores compare with simpler ones.

Its inputs are those of the encoder. It is fitted twice: on the part of the cases that contestants are compared by, and on what a
winner is published by.
"""

import json
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from jobs.config.outcomes import load_outcomes
from jobs.config.settings import Settings
from jobs.outcome_cases import Cases, find_separators, load_inputs, read_cases, split_cases
from jobs.progress import log
from jobs.storage import models

FORMAT = 1  # raise it when the same inputs are to give another network
_UNITS = 32
_EPOCHS, _PATIENCE = 100, 10
_BATCH_ROWS = 512
_LEARNING_RATE, _WEIGHT_DECAY = 0.003, 0.01
_VALIDATION = 10  # every so many-th customer decides when the training stops


def run(settings: Settings, day: date) -> None:
    """Train the networks of all outcomes with enough cases, and save them as those of the day."""
    encoder = models.champion(settings.models, day)["version"]
    inputs = load_inputs(settings.models, encoder)
    networks = {}
    for name, cases in read_cases(settings.lake, inputs, load_outcomes(settings.outcomes), day).items():
        parts = split_cases(cases)
        if not isinstance(parts, str):
            refused = find_separators(parts.fit)
            networks[name] = {
                part: fit_network(of_part.without(refused), len(inputs.names), settings.scores.seed)
                for part, of_part in (("fit", parts.fit), ("last_fit", parts.last_fit))
            }
    record = {"encoder": encoder, "networks": networks}
    version = models.name_version(day, json.dumps([FORMAT, record]))

    def write(folder: Path) -> None:
        (folder / "networks.json").write_text(json.dumps(record))
        (folder / "meta.json").write_text(json.dumps({"version": version, "day": day.isoformat(), "encoder": encoder}))

    models.save_champion(settings.models, version, write, day, models.OUTCOME_NETWORKS)
    log(f"train networks of {len(networks)} outcomes: {version}")


def fit_network(cases: Cases, n_inputs: int, seed: int) -> dict:
    """Return a network of one hidden layer as jobs/scores/_classifiers.py reads it, fitted on the first `n_inputs` columns.

    The weights are those of the epoch with the lowest log loss on the validation customers.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, labels = torch.from_numpy(cases.matrix[:, :n_inputs].copy()), torch.from_numpy(cases.labels.astype(np.float32))
    order = torch.randperm(len(rows), generator=generator)
    validation, training = order[::_VALIDATION], order[torch.arange(len(order)) % _VALIDATION > 0]
    weights = [torch.randn(n_inputs, _UNITS, generator=generator) * (2 / n_inputs) ** 0.5, torch.zeros(_UNITS)]
    weights += [torch.randn(_UNITS, generator=generator) / _UNITS**0.5, torch.zeros(())]
    parameters = [nn.Parameter(weight) for weight in weights]
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

    def loss(chosen: torch.Tensor) -> torch.Tensor:
        hidden, hidden_bias, output, output_bias = parameters
        logits = functional.relu(rows[chosen] @ hidden + hidden_bias) @ output + output_bias
        return functional.binary_cross_entropy_with_logits(logits, labels[chosen])

    best, lowest, since = [p.detach().clone() for p in parameters], float("inf"), 0
    for _ in range(_EPOCHS):
        for batch in training[torch.randperm(len(training), generator=generator)].split(_BATCH_ROWS):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        with torch.no_grad():
            current = float(loss(validation))
        best, lowest, since = (
            ([p.detach().clone() for p in parameters], current, 0) if current < lowest else (best, lowest, since + 1)
        )
        if since == _PATIENCE:
            break
    hidden, hidden_bias, output, _ = (weight.numpy().astype(float) for weight in best)
    centre = cases.matrix[:, :n_inputs].mean(axis=0, dtype=np.float64)
    record = {"hidden": hidden, "hidden_bias": hidden_bias, "output": output, "centre": centre}
    return {"kind": "network"} | {name: values.tolist() for name, values in record.items()}
