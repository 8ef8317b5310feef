"""Train, export and promote the autoencoder of a day."""

import hashlib
import json
import platform
import time
from dataclasses import asdict
from datetime import date
from importlib.metadata import version as version_of

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from jobs import models
from jobs.autoencoder import data, export
from jobs.autoencoder.model import Autoencoder, Sizes, pca_error
from jobs.errors import UserError
from jobs.settings import Settings, Train

FORMAT = 1  # raise it when the same inputs shall give another model
MIN_BATCHES = 16  # per epoch: a small shop gets smaller batches instead of fewer steps
WEIGHT_DECAY = 1e-4
MAX_GRADIENT_NORM = 1.0
ISOMETRY = 1.0  # weight of keeping distances, see denoising_loss
EPOCHS_PER_LINE = 10
THREADS = 1  # a second one gains nothing on batches this small and waits for ever on a busy machine


def run(settings: Settings, day: date) -> str:
    """Train on the customers of `day`, save the model, make it champion from `day` on; returns its version.

    A version that is already there with the same inputs is promoted, not trained again.
    Raises UserError for features that cannot be trained on.
    """
    started = time.perf_counter()
    customers = data.read(settings.lake, day, settings.train.min_customers)
    version = f"{day}-{_identity(customers, settings.train)[:8]}"
    if models.exists(settings.models, version):
        _say(f"{version} is there with the same inputs; not trained again")
    else:
        model, facts = _train(customers, settings.train, started)
        facts = {"version": version, **facts, "seconds": round(time.perf_counter() - started, 1)}
        models.save(settings.models, version, lambda folder: export.write(folder, model, customers, facts))
    models.promote(settings.models, version, since=day)
    _say(f"{version} is champion from {day} on")
    return version


def _identity(customers: data.Customers, settings: Train) -> str:
    inputs = [FORMAT, customers.names, asdict(settings), data.fingerprint(customers)]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def _train(customers: data.Customers, settings: Train, started: float) -> tuple[Autoencoder, dict]:
    """The fitted model on the CPU and what meta.json says about it."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(settings.seed)
    rows = data.split(customers.ids)
    for share, held in rows.items():
        if len(held) == 0:
            raise UserError(
                f"train: features.customers, day {customers.day}: none of {len(customers.ids)} customers falls into "
                f"the {share} share; take a day with more customers"
            )
    preprocessing = data.fit(customers.matrix[rows["train"]])
    sizes = Sizes(features=len(customers.names), latent=settings.latent)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Autoencoder(sizes).to(device)
    model.set_preprocessing(preprocessing)
    with torch.no_grad():
        scaled = {
            share: torch.cat([model.preprocess(part.to(device)) for part in _rows(customers.matrix, held)])
            for share, held in rows.items()
        }
    _say(
        f"{customers.day}  {len(customers.ids)} active customers x {sizes.features} features, "
        f"{', '.join(f'{len(held)} {share}' for share, held in rows.items())}, on {device}"
    )
    model.start_at_pca(scaled["train"])
    epochs = fit(model, scaled["train"], scaled["validation"], settings, started)
    model.set_axes(scaled["train"])
    test_error = reconstruction_error(model, scaled["test"])
    test_error_pca = pca_error(scaled["train"], scaled["test"], settings.latent)
    _say(f"test error {test_error:.4f}, PCA with {settings.latent} dimensions {test_error_pca:.4f}")
    facts = {
        "day": customers.day.isoformat(),
        "delta_version": customers.delta_version,
        "features": list(customers.names),
        "log_features": _named(customers.names, preprocessing.is_log),
        "constant_features": _named(customers.names, preprocessing.is_constant),
        "sizes": asdict(sizes),
        "settings": asdict(settings),
        "customers": {share: len(held) for share, held in rows.items()},
        "test_error": test_error,
        "test_error_pca": test_error_pca,
        "better_than_pca": test_error < test_error_pca,
        "best_epoch": min(epochs, key=lambda epoch: epoch["validation"])["epoch"],
        "epochs": epochs,
        "device": device,
        "libraries": {"python": platform.python_version()}
        | {name: version_of(name) for name in ("torch", "numpy", "pyarrow", "deltalake", "onnx", "onnxruntime")},
    }
    return model.cpu(), facts


def fit(model: Autoencoder, train: Tensor, validation: Tensor, settings: Train, started: float) -> list[dict]:
    """Train `model` on scaled customers (n x d) until the validation error stops falling; best weights stay in it.

    Returns the epochs as {"epoch", "loss", "validation"}; epoch 0 is the start. Raises UserError on a loss that is
    no number.
    """
    random = torch.Generator(device=train.device).manual_seed(settings.seed)
    batch_size = min(settings.batch_size, max(1, len(train) // MIN_BATCHES))
    weights = list(model.parameters())
    # The functional form: the optimizer class imports torch's compiler, 4 s for nothing here.
    first, second = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    steps = [torch.zeros((), device=w.device) for w in weights]
    best, best_epoch, best_error = _copy(model), 0, reconstruction_error(model, validation)
    epochs = [{"epoch": 0, "loss": reconstruction_error(model, train), "validation": best_error}]
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(len(train), generator=random, device=train.device)
        total = torch.zeros((), device=train.device)
        for batch in order.split(batch_size):
            clean = train[batch]
            loss = denoising_loss(model, clean, settings.noise, random)
            for weight in weights:
                weight.grad = None
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM)
            with torch.no_grad():
                adamw(
                    weights,
                    [weight.grad for weight in weights],
                    first,
                    second,
                    [],
                    steps,
                    fused=True,
                    amsgrad=False,
                    beta1=0.9,
                    beta2=0.999,
                    lr=settings.learning_rate,
                    weight_decay=WEIGHT_DECAY,
                    eps=1e-8,
                    maximize=False,
                )
            total += loss.detach() * len(batch)
        error = reconstruction_error(model, validation)
        epochs.append({"epoch": epoch, "loss": float(total) / len(train), "validation": error})
        if not np.isfinite(error):
            raise UserError(
                f"train: the loss is no number after epoch {epoch}; lower train.learning_rate (it is {settings.learning_rate})"
            )
        if error < best_error:
            best, best_epoch, best_error = _copy(model), epoch, error
        stops = epoch - best_epoch >= settings.patience or epoch == settings.epochs
        if epoch % EPOCHS_PER_LINE == 0 or stops:
            seconds = time.perf_counter() - started
            _say(f"epoch {epoch}  loss {epochs[-1]['loss']:.4f}  validation {error:.4f}  {seconds:.1f} s")
        if stops:
            break
    _say(f"best epoch {best_epoch}, validation {best_error:.4f}")
    model.load_state_dict(best)
    return epochs


def denoising_loss(model: Autoencoder, clean: Tensor, noise: float, random: torch.Generator) -> Tensor:
    """Squared error of restoring `clean` (n x d) after a share `noise` of its values came from other customers.

    Two neighbours of the batch shall also be as far apart in the latent as their reconstructions are: K-Means measures
    there with a straight ruler, and an autoencoder left alone bends and stretches it.
    """
    strangers = clean[torch.randperm(len(clean), generator=random, device=clean.device)]
    swapped = torch.rand(clean.shape, generator=random, device=clean.device) < noise
    latent = model.encode(torch.where(swapped, strangers, clean))
    decoded = model.decode(latent)
    stretch = _step_lengths(latent) - _step_lengths(decoded)
    return (decoded - clean).square().mean() + ISOMETRY * stretch.square().mean() / clean.shape[1]


def _step_lengths(points: Tensor) -> Tensor:
    return ((points - points.roll(1, dims=0)).square().sum(dim=1) + 1e-6).sqrt()  # the root of 0 has no gradient


@torch.no_grad()
def reconstruction_error(model: Autoencoder, scaled: Tensor) -> float:
    """Mean squared error over scaled customers (n x d)."""
    total = sum(float((model.decode(model.encode(part)) - part).square().sum()) for part in scaled.split(65536))
    return total / scaled.numel()


def _rows(matrix: np.ndarray, rows: np.ndarray):
    """`matrix[rows]` in parts, so that no second copy of the matrix is made."""
    for start in range(0, len(rows), 65536):
        yield torch.from_numpy(matrix[rows[start : start + 65536]])


def _copy(model: Autoencoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _named(names: tuple[str, ...], flags: np.ndarray) -> list[str]:
    return [name for name, flag in zip(names, flags, strict=True) if flag]


def _say(text: str) -> None:
    print(f"train  {text}", flush=True)
