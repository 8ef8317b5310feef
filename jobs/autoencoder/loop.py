"""The training loop: from a start or a checkpoint to trained weights.

All randomness is drawn anew for each batch from the seed and the numbers of epoch and batch, and all else that a step depends
on is in the checkpoint, so a training that was killed goes on as if it had not been. Several processes (torchrun) share the
rows of each batch and add up their gradients, so they learn what one would.
"""

import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.adamw import adamw

from jobs.autoencoder.checkpoints import Checkpoints
from jobs.autoencoder.examples import Examples
from jobs.config.settings import Train
from jobs.errors import UserError

MIN_BATCHES = 32  # per epoch: a small shop gets smaller batches instead of fewer steps
MAX_GRADIENT_NORM = 1.0
WARM_UP = 0.1  # share of the steps in which the learning rate rises
EPOCHS_PER_LINE, SECONDS_PER_LINE = 10, 10.0

Rows = Tensor | slice
Loss = Callable[[Tensor, Tensor, Rows], Tensor]
"""Of a batch of customers (b x d), what is around each (b x d) and which of the b are to be learned from here: the loss of each
of these. They come in pairs, so that pairs may be compared; the last may be alone."""


@dataclass(frozen=True)
class Phase:
    """What is learned for how long. With `error`, until that stops falling for `patience` epochs, and the best weights stay;
    without, to the end."""

    name: str
    loss: Loss
    epochs: int
    learning_rate: float
    error: Callable[[], float] | None = None
    begins: Callable[[], None] = lambda: None
    epoch_begins: Callable[[], None] = lambda: None


@dataclass
class Progress:
    """How far a training has come."""

    phase: int = 0
    epoch: int = 1  # of the phase
    batch: int = 0  # of the epoch: how many were learned from
    step: int = 0  # of the phase
    total: float = 0.0  # loss of the epoch so far, summed over customers
    best_epoch: int = 0
    best_error: float = math.inf
    epochs: list[dict] = field(default_factory=list)


def fit(
    model: nn.Module,
    phases: list[Phase],
    draws: list[Examples],
    settings: Train,
    checkpoints: Checkpoints,
    say: Callable[[str], None],
    after_epoch: Callable[[list[dict]], None] = lambda _: None,
) -> list[dict]:
    """Train `model` through all `phases`, from the checkpoint where there is one.

    Each epoch takes the next of `draws`, which differ in what was imputed. Returns the epochs of all phases as {"phase", "epoch",
    "loss", "validation"}; `after_epoch` gets those so far. Raises UserError on a loss that is no number, on a checkpoint of
    another network, and where not even one customer fits into the device's memory; SystemExit after SIGTERM, once all is saved.
    """
    with _terminated() as terminated:
        learner = _Learner(model, settings, checkpoints, say, after_epoch, terminated)
        learner.restore()
        for number, phase in enumerate(phases):
            if learner.progress.phase == number:
                learner.learn(phase, draws)
    return learner.progress.epochs


class _Learner:
    def __init__(
        self,
        model: nn.Module,
        settings: Train,
        checkpoints: Checkpoints,
        say: Callable[[str], None],
        after_epoch: Callable[[list[dict]], None],
        terminated: Callable[[], bool],
    ):
        self.model, self.settings, self.checkpoints = model, settings, checkpoints
        self.say, self.after_epoch, self.terminated = say, after_epoch, terminated
        self.progress = Progress()
        self.weights = _flat(model)
        self.device = self.weights.device
        self.moments = [torch.zeros_like(self.weights.data) for _ in range(2)]  # of AdamW
        self.best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.total = torch.zeros((), device=self.device, dtype=torch.float64)
        self.pieces = 1  # in which a batch is learned from, one after the other, where memory is short
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    def learn(self, phase: Phase, draws: list[Examples]) -> None:
        now, patience = self.progress, self.settings.patience
        size = min(self.settings.batch_size, max(1, len(draws[0]) // MIN_BATCHES))
        n_batches = -(-len(draws[0]) // size)
        n_epochs = max(1, min(phase.epochs, self.settings.max_steps // n_batches))
        n_steps = n_epochs * n_batches
        self.loss = torch.compile(phase.loss) if self.device.type == "cuda" else phase.loss
        if (now.epoch, now.batch) == (1, 0):
            phase.begins()
        started, n_learned, last_line = time.perf_counter(), 0, time.perf_counter()
        for epoch in range(now.epoch, n_epochs + 1):
            if now.batch == 0:
                phase.epoch_begins()
            self.model.train()
            random = torch.Generator().manual_seed(_seed(self.settings.seed, now.phase, now.epoch))
            batches = draws[epoch % len(draws)].batches(size, random, str(self.device))
            for number, (customers, around) in enumerate(batches):
                if number < now.batch:
                    continue
                stop = self._step(customers, around, self._rate(phase, n_steps))
                now.batch, now.step, n_learned = number + 1, now.step + 1, n_learned + len(customers)
                if stop or self.checkpoints.due:
                    self.save()
                if stop:
                    self.say(f"stopped in {phase.name}, epoch {epoch}, and saved; the same command goes on from there")
                    raise SystemExit(128 + signal.SIGTERM)
            self.model.eval()
            ended = self._end_epoch(phase, len(draws[0]))
            self.after_epoch(now.epochs)
            ends = epoch == n_epochs or (phase.error is not None and epoch - now.best_epoch >= patience)
            seconds = time.perf_counter()
            if epoch % EPOCHS_PER_LINE == 0 or ends or seconds - last_line > SECONDS_PER_LINE:
                pace = n_learned / (seconds - started) / 1e6
                told = "" if ended["validation"] is None else f"  validation {ended['validation']:.4f}"
                self.say(f"{phase.name} epoch {epoch}  loss {ended['loss']:.4f}{told}  {pace:.2f} M customers/s")
                last_line = seconds
            now.epoch, now.batch = epoch + 1, 0
            if ends:
                break
        if phase.error is not None:
            self.say(f"best epoch {now.best_epoch}, validation {now.best_error:.4f}")
            self.model.load_state_dict(self.best)
        self.progress = Progress(phase=now.phase + 1, epochs=now.epochs)
        for moment in self.moments:
            moment.zero_()

    def _end_epoch(self, phase: Phase, n: int) -> dict:
        now = self.progress
        found = {
            "phase": phase.name,
            "epoch": now.epoch,
            "loss": float(self.total) / n,
            "validation": phase.error() if phase.error else None,
        }
        self.total.zero_()
        now.epochs.append(found)
        if not all(math.isfinite(found[name] or 0.0) for name in ("loss", "validation")):
            raise UserError(
                f"train: the loss is no number after epoch {now.epoch}; lower train.learning_rate (it is {phase.learning_rate})"
            )
        if phase.error and found["validation"] < now.best_error:
            now.best_error, now.best_epoch = found["validation"], now.epoch
            for name, tensor in self.model.state_dict().items():
                self.best[name].copy_(tensor)
        return found

    def _step(self, customers: Tensor, around: Tensor, rate: float) -> bool:
        """Learn from a batch (b x d each); returns whether a process was told to stop."""
        now = self.progress
        seed = _seed(self.settings.seed, now.phase, now.epoch, now.batch)
        while True:
            try:
                total = self._gradients(customers, around, seed)
                break
            except torch.OutOfMemoryError:
                if self.pieces * self.world >= len(customers):
                    raise UserError(
                        "train: not even one customer at a time fits into the GPU's memory; free it, or train on another"
                    ) from None
            self.pieces *= 2
            self.say(f"the GPU's memory is full; each batch is learned from in {self.pieces} pieces")
            torch.cuda.empty_cache()
        stop = self.terminated()
        if self.world > 1:
            dist.all_reduce(self.weights.grad)
            told = torch.stack([total, total.new_tensor(stop)])
            dist.all_reduce(told)
            total, stop = told[0], bool(told[1])
        self.total += total
        nn.utils.clip_grad_norm_(self.weights, MAX_GRADIENT_NORM)
        # The functional form: the optimizer class imports torch's compiler, 4 s for nothing on a CPU.
        with torch.no_grad():
            adamw(
                [self.weights],
                [self.weights.grad],
                self.moments[:1],
                self.moments[1:],
                [],
                [torch.full((), float(now.step), device=self.device)],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate,
                weight_decay=self.settings.weight_decay,
                eps=1e-8,
                maximize=False,
            )
        return stop

    def _gradients(self, customers: Tensor, around: Tensor, seed: int) -> Tensor:
        """Set the gradients of this process's share of the batch's mean loss; returns the sum of its customers' losses."""
        self.weights.grad.zero_()
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        for mine in self._shares(len(customers)):
            torch.manual_seed(seed)  # the loss draws for the whole batch
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                loss = self.loss(customers, around, mine).sum()
            (loss / len(customers)).backward()
            total += loss.detach()
        return total

    def _shares(self, n: int) -> Iterator[Rows]:
        """What of a batch of n this process learns from, piece by piece."""
        shares = self.pieces * self.world
        if shares == 1:
            yield slice(None)
            return
        places = torch.arange(n, device=self.device)
        for piece in range(self.pieces):
            mine = places[places // 2 % shares == self.rank + self.world * piece]
            if len(mine):
                yield mine

    def _rate(self, phase: Phase, n_steps: int) -> float:
        """The learning rate: up from nothing in the first steps, then down to nothing along half a cosine."""
        warm, step = max(1.0, WARM_UP * n_steps), self.progress.step
        if step < warm:
            return phase.learning_rate * (step + 1) / warm
        return phase.learning_rate * (0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warm) / (n_steps - warm))))

    def save(self) -> None:
        """The checkpoint; of several processes the first writes it, for all hold the same."""
        self.progress.total = float(self.total)
        if self.rank == 0:
            self.checkpoints.save(self._tensors(), asdict(self.progress))

    def restore(self) -> None:
        """From the checkpoint, where there is one."""
        found = self.checkpoints.load()
        if found is None:
            return
        tensors, facts = found
        ours = self._tensors()
        if tensors.keys() != ours.keys() or any(tensors[name].shape != ours[name].shape for name in ours):
            raise UserError(self.checkpoints.refusal("is of another network"))
        for name, tensor in ours.items():
            tensor.copy_(tensors[name])
        self.progress = Progress(**facts)
        self.total.fill_(self.progress.total)
        self.say(f"goes on from epoch {self.progress.epoch}, batch {self.progress.batch}")

    def _tensors(self) -> dict[str, Tensor]:
        groups = {
            "weight": self.model.state_dict(),
            "best": self.best,
            "moment": {str(order): tensor for order, tensor in enumerate(self.moments)},
        }
        return {f"{group}.{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}


def _flat(model: nn.Module) -> nn.Parameter:
    """The weights of `model` that learn, and their gradients, as one: its layers get views, so that a step takes few calls."""
    layers = [weights for weights in model.parameters() if weights.requires_grad]
    flat = nn.Parameter(torch.cat([weights.detach().flatten() for weights in layers]))
    flat.grad = torch.zeros_like(flat.data)
    sizes = [weights.numel() for weights in layers]
    for weights, values, gradients in zip(layers, flat.data.split(sizes), flat.grad.split(sizes), strict=True):
        weights.data, weights.grad = values.view_as(weights), gradients.view_as(weights)
    return flat


def _seed(*numbers: int) -> int:
    """
    >>> _seed(17, 0, 1) == _seed(17, 0, 1) != _seed(17, 1, 0)
    True
    """
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "big") >> 1


@contextmanager
def _terminated() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM came, which within this does not end the process. Python hands signals to the main thread alone."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGTERM, before)
