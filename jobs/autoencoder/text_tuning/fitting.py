"""Fit the top layers of an encoder to an objective, until the retrieval of held-out queries no longer gains."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.text_tuning.bert import Encoder
from jobs.autoencoder.text_tuning.objectives import ContrastiveObjective, MaskedObjective
from jobs.autoencoder.trainer import Schedule
from jobs.config.settings import Tuning
from jobs.errors import UserError

MAX_GRADIENT_NORM = 1.0
WEIGHT_DECAY = 0.01  # of AdamW, its usual value
_MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of each weight


@dataclass
class Progress:
    """Where a training is, and what it has found."""

    epoch: int = 1
    batch: int = 0  # batches of the epoch that are done
    step: int = 0
    loss: float = 0.0  # sum over the batches of the epoch
    seconds: float = 0.0  # of all processes that trained
    best_epoch: int = 0  # 0: the model that the tuning started from
    best_mrr: float = -math.inf
    epochs: list[dict] = field(default_factory=list)


class Tuner:
    """The state of a tuning, and the steps that change it."""

    def __init__(
        self,
        encoder: Encoder,
        objective: ContrastiveObjective | MaskedObjective,
        validate: Callable[[], float],
        settings: Tuning,
        checkpoint: CheckpointFile,
        log: Callable[[str], None],
    ):
        self.encoder, self.objective, self.validate = encoder, objective, validate
        self.settings, self.checkpoint, self.log = settings, checkpoint, log
        self.weights = encoder.train_top(settings.trained_layers)
        self.best_weights = [weight.detach().clone() for weight in self.weights]
        self.optimizer = torch.optim.AdamW(self.weights, lr=settings.learning_rate, weight_decay=WEIGHT_DECAY)
        self.progress = Progress()
        self.is_at_limit = False
        n_steps = min(settings.epochs * objective.n_batches, settings.max_steps)
        self.schedule = Schedule(settings.batch_size, settings.epochs, n_steps, settings.learning_rate)

    def fit(self) -> Progress:
        """Train from the checkpoint if there is one; the encoder gets the weights of the best epoch. Return the progress.

        `validate` returns the mean reciprocal rank of held-out queries. Raises UserError for a loss that is not a number.
        """
        self._load_checkpoint()
        progress = self.progress
        if progress.step == 0:
            self._end_epoch(0, None)
        while progress.epoch <= self.schedule.n_epochs and not self.is_at_limit:
            self._train_epoch()
            self._end_epoch(progress.epoch, progress.loss / max(1, progress.batch))
            progress.epoch, progress.batch, progress.loss = progress.epoch + 1, 0, 0.0
            if progress.epoch - 1 - progress.best_epoch >= self.settings.patience:
                break
        with torch.no_grad():
            for weight, best in zip(self.weights, self.best_weights, strict=True):
                weight.copy_(best)
        self.encoder.eval()
        return progress

    def _train_epoch(self) -> None:
        """Train on the batches of the epoch that are left, or until a limit of time or steps."""
        progress = self.progress
        self.encoder.train()
        batches = self.objective.draw_batches(np.random.default_rng([self.settings.seed, progress.epoch]))
        for batch in batches[progress.batch :]:
            started = time.perf_counter()
            torch.manual_seed(_derive_seed(self.settings.seed, progress.epoch, progress.batch))
            progress.loss += self._train_batch(batch)
            progress.batch, progress.step = progress.batch + 1, progress.step + 1
            progress.seconds += time.perf_counter() - started
            if self.checkpoint.is_due:
                self._save_checkpoint()
            is_late = progress.seconds > 60 * self.settings.max_minutes
            if is_late:
                self.log(f"stopped after {self.settings.max_minutes:g} minutes of training (tuning.max_minutes)")
            if is_late or progress.step >= self.schedule.n_steps:
                self.is_at_limit = True
                break

    def _train_batch(self, batch: np.ndarray) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate(self.progress.step)
        device = self.weights[0].device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = self.objective.loss(batch)
        if not math.isfinite(value := loss.item()):
            rate = self.settings.learning_rate
            raise UserError(f"train: the loss of the text model is not a number; lower tuning.learning_rate (it is {rate})")
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, MAX_GRADIENT_NORM)
        self.optimizer.step()
        return value

    def _end_epoch(self, epoch: int, loss: float | None) -> None:
        """Validate, and keep the weights where they are the best so far; epoch 0 is the start."""
        progress, mrr = self.progress, self.validate()
        progress.epochs.append({"epoch": epoch, "loss": loss, "validation_mrr": mrr})
        if mrr > progress.best_mrr:
            progress.best_epoch, progress.best_mrr = epoch, mrr
            for best, weight in zip(self.best_weights, self.weights, strict=True):
                best.copy_(weight.detach())
        figures = f"validation MRR {mrr:.4f}" if loss is None else f"loss {loss:.4f}  validation MRR {mrr:.4f}"
        self.log(f"epoch {epoch}  {figures}  {progress.seconds:.0f} s")

    def _save_checkpoint(self) -> None:
        self.checkpoint.save(self._tensors(), asdict(self.progress))

    def _load_checkpoint(self) -> None:
        saved = self.checkpoint.load()
        if saved is None:
            return
        saved_tensors, state = saved
        for weight in self.weights:  # as the optimizer begins
            moments = {name: torch.zeros_like(weight) for name in _MOMENTS}
            self.optimizer.state[weight] = {"step": torch.tensor(float(state["step"])), **moments}
        tensors = self._tensors()
        if {name: tensor.shape for name, tensor in saved_tensors.items()} != {name: t.shape for name, t in tensors.items()}:
            raise self.checkpoint.error("belongs to another network")
        for name, tensor in tensors.items():
            tensor.copy_(saved_tensors[name])
        self.progress = Progress(**state)
        self.log(f"resumes from epoch {self.progress.epoch}, batch {self.progress.batch}")

    def _tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the checkpoint by name."""
        tensors = {}
        for place, (weight, best) in enumerate(zip(self.weights, self.best_weights, strict=True)):
            tensors |= {f"weight.{place}": weight.detach(), f"best.{place}": best}
            tensors |= {f"{name}.{place}": self.optimizer.state[weight][name] for name in _MOMENTS}
        return tensors


def _derive_seed(*numbers: int) -> int:
    """Return a seed that depends on all numbers and their order.

    >>> _derive_seed(17, 1, 0) == _derive_seed(17, 1, 0) != _derive_seed(17, 0, 1)
    True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
