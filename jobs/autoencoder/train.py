"""Train, export and promote the autoencoder of a day."""

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from importlib.metadata import version as version_of

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from jobs import catalogue, models, policy
from jobs.autoencoder import data, evaluation, export, isolation, preprocessing, profile
from jobs.autoencoder.model import Autoencoder, Sizes
from jobs.errors import UserError
from jobs.policy import Column, Policy
from jobs.settings import Settings, Train

FORMAT = 2  # raise it when the same inputs shall give another model
MIN_BATCHES = 16  # per epoch: a small shop gets smaller batches instead of fewer steps
WEIGHT_DECAY = 1e-4
MAX_GRADIENT_NORM = 1.0
ISOMETRY = 1.0  # weight of keeping distances, see denoising_loss
EPOCHS_PER_LINE = 10
_LIBRARIES = ("torch", "numpy", "pyarrow", "deltalake", "onnx", "onnxruntime", "scikit-learn")
THREADS = 1  # a second one gains nothing on batches this small and waits for ever on a busy machine


def run(settings: Settings, day: date) -> str:
    """Train on the customers of `day`, save the model, make it champion from `day` on; returns its version.

    A version that is already there with the same inputs is promoted, not trained again.
    Raises UserError for features that cannot be trained on.
    """
    started = time.perf_counter()
    rules = policy.load(settings.policy)
    customers = data.read(settings.lake, day, settings.train.min_customers)
    version = f"{day}-{_identity(customers, settings.train, rules)[:8]}"
    if models.exists(settings.models, version):
        _say(f"{version} is there with the same inputs; not trained again")
    else:
        trained, facts = _train(customers, settings.train, rules, started)
        facts = {"version": version, **facts, "seconds": round(time.perf_counter() - started, 1)}
        models.save(settings.models, version, lambda folder: export.write(folder, trained, customers, facts))
    models.promote(settings.models, version, since=day)
    _say(f"{version} is champion from {day} on")
    return version


def _identity(customers: data.Customers, settings: Train, rules: Policy) -> str:
    inputs = [FORMAT, customers.names, asdict(settings), rules.sha256, data.fingerprint(customers)]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def _train(customers: data.Customers, settings: Train, rules: Policy, started: float) -> tuple[export.Trained, dict]:
    """What was fitted, on the CPU, and what meta.json says about it."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(settings.seed)
    columns = rules.numbers(
        customers.names, customers.attributes, known={*catalogue.VECTOR, *(a.name for a in catalogue.ATTRIBUTES)}
    )
    rows = _shares(customers, columns)
    learned_from = rows["train"]
    categories = {
        name: preprocessing.frequent(texts.take(pa.array(learned_from)), rules.categories(name))
        for name, texts in customers.attributes.items()
    }
    coded = preprocessing.codes(list(customers.attributes.values()), list(categories.values()), len(customers.ids))
    fitted = preprocessing.fit(
        customers.matrix[learned_from],
        coded[learned_from],
        customers.names,
        columns,
        categories,
        rules.selection,
        settings.seed,
    )
    if not fitted.names:
        raise UserError(f"train: features.customers, day {customers.day}: no feature differs between customers; take another day")
    forest = isolation.fit(fitted.inputs.numpy(), settings.seed)
    sizes = Sizes(inputs=len(fitted.names), latent=settings.latent)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Autoencoder(sizes, fitted.numbers)
    scaled = {
        share: preprocessing.apply(model.preprocess, customers.matrix[held], coded[held]).to(device)
        for share, held in rows.items()
    }
    model.to(device)
    _say(
        f"{customers.day}  {len(customers.ids)} active customers x {len(customers.names)} features and {len(categories)} "
        f"attributes, {sizes.inputs} columns after {len(fitted.left_out)} were left out, "
        f"{', '.join(f'{len(held)} {share}' for share, held in rows.items())}, on {device}"
    )
    model.start_at_pca(scaled["train"])
    draws = [draw.to(device) for draw in fitted.draws] or [scaled["train"]]
    epochs = fit(model, draws, scaled["validation"], settings, started)
    model.set_axes(scaled["train"])
    tested = [customers.ids[row].as_py() for row in rows["test"]]
    found = evaluation.of(model, scaled["train"], scaled["test"], tested, fitted.names)
    _say(
        f"test error {found['test_error']:.4f}, PCA with {settings.latent} dimensions {found['test_error_pca']:.4f}; "
        f"trustworthiness {_figure(found['trustworthiness'])}, of PCA {_figure(found['trustworthiness_pca'])}"
    )
    model = model.cpu()
    errors = _in_parts(model.errors, scaled["train"].cpu())
    profiles = {name: profile.of(customers.matrix[learned_from, j]) for j, name in enumerate(customers.names)}
    facts = {
        "day": customers.day.isoformat(),
        "delta_version": customers.delta_version,
        "features": list(customers.names),
        "attributes": {
            name: {"categories": known} | _category_shares(coded[learned_from, place], len(known))
            for place, (name, known) in enumerate(categories.items())
        },
        "inputs": fitted.names,
        "left_out": fitted.left_out,
        "log_features": [name for name, is_log in zip(customers.names, fitted.numbers.is_log, strict=True) if is_log],
        "policy": rules.resolved(dict(zip(customers.names, columns, strict=True)), customers.attributes),
        "profile": profiles | {"reconstruction_error": profile.of(errors)},
        "sizes": asdict(sizes),
        "settings": asdict(settings),
        "customers": {share: len(held) for share, held in rows.items()},
        "dropped": len(customers.ids) - sum(map(len, rows.values())),
        **found,
        "best_epoch": min(epochs, key=lambda epoch: epoch["validation"])["epoch"],
        "epochs": epochs,
        "device": device,
        "libraries": {"python": platform.python_version()} | {name: version_of(name) for name in _LIBRARIES},
    }
    return export.Trained(model, forest, categories), facts


def _shares(customers: data.Customers, columns: list[Column]) -> dict[str, np.ndarray]:
    """Row numbers per share, without customers who lack a value that the policy says to drop them for."""
    needed = [column.missing == "drop" for column in columns]
    complete = np.isfinite(customers.matrix[:, needed]).all(axis=1)
    rows = {share: held[complete[held]] for share, held in data.split(customers.ids).items()}
    for share, held in rows.items():
        if len(held) == 0:
            dropped = f" ({(~complete).sum()} dropped for a missing value)" if not complete.all() else ""
            raise UserError(
                f"train: features.customers, day {customers.day}: none of {len(customers.ids)} customers{dropped} falls into "
                f"the {share} share; take a day with more customers"
            )
    return rows


def _category_shares(coded: np.ndarray, n: int) -> dict:
    """Shares of n categories and of all others, of the customers with a known one, and the share of the rest."""
    known = coded[coded != preprocessing.MISSING]
    shares = np.bincount(known, minlength=n + 1) / max(1, len(known))
    return {"shares": shares.tolist(), "missing_share": 1 - len(known) / len(coded)}


def fit(model: Autoencoder, draws: list[Tensor], validation: Tensor, settings: Train, started: float) -> list[dict]:
    """Train `model` on customers (n x inputs) until the validation error stops falling; best weights stay in it.

    Each epoch takes the next of `draws`, which differ in what was imputed.
    Returns the epochs as {"epoch", "loss", "validation"}; epoch 0 is the start. Raises UserError on a loss that is
    no number.
    """
    train = draws[0]
    random = torch.Generator(device=train.device).manual_seed(settings.seed)
    batch_size = min(settings.batch_size, max(1, len(train) // MIN_BATCHES))
    weights = list(model.parameters())
    # The functional form: the optimizer class imports torch's compiler, 4 s for nothing here.
    first, second = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    steps = [torch.zeros((), device=w.device) for w in weights]
    best, best_epoch, best_error = _copy(model), 0, reconstruction_error(model, validation)
    epochs = [{"epoch": 0, "loss": reconstruction_error(model, train), "validation": best_error}]
    for epoch in range(1, settings.epochs + 1):
        train = draws[epoch % len(draws)]
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


def reconstruction_error(model: Autoencoder, scaled: Tensor) -> float:
    """Mean squared error over preprocessed customers (n x inputs)."""
    return float(_in_parts(model.errors, scaled).mean(dtype=np.float64))


@torch.no_grad()
def _in_parts(function: Callable[[Tensor], Tensor], scaled: Tensor) -> np.ndarray:
    return torch.cat([function(part) for part in scaled.split(65536)]).cpu().numpy()


def _copy(model: Autoencoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _figure(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def _say(text: str) -> None:
    print(f"train  {text}", flush=True)
