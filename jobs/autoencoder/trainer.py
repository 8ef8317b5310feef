"""The training loop: batches, gradients, AdamW, epochs, checkpoints. It knows losses as functions, and nothing of the model.

A resumed training gives the same weights as one that was never interrupted: each batch takes its random numbers from the seed
and the numbers of phase, epoch and batch, and all else that a step depends on is in the checkpoint. Several processes
(torchrun) share the rows of each batch and sum their gradients, so they learn the same as one process.
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

from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.examples import Examples
from jobs.config.settings import Train
from jobs.errors import UserError

MIN_BATCHES = 32  # per epoch: a small shop gets smaller batches instead of fewer steps
MAX_GRADIENT_NORM = 1.0
WARM_UP_SHARE = 0.1  # of the steps, in which the learning rate rises
EPOCHS_PER_LOG_LINE, SECONDS_PER_LOG_LINE = 10, 10.0

Rows = Tensor | slice
Loss = Callable[[Tensor, Tensor, Rows], Tensor]
"""Customers (n_rows, n_inputs), their neighbour means (n_rows, n_inputs), and the rows to learn from -> the loss of each of these
rows. The rows come in pairs, because a loss may compare the two customers of a pair; the last one may be single."""


@dataclass(frozen=True)
class Phase:
    """A loss and how long it is trained.

    With `validate` a phase ends early, after `patience` epochs without a lower validation loss, and the best weights are kept.
    """

    name: str
    loss: Loss
    epochs: int
    learning_rate: float
    validate: Callable[[], float] | None = None
    on_start: Callable[[], None] = lambda: None
    on_epoch_start: Callable[[], None] = lambda: None
    is_compiled: bool = True  # on a GPU; batches of ever another shape would be compiled again and again


@dataclass
class Progress:
    """How far a training is; it is saved in the checkpoint."""

    phase: int = 0
    epoch: int = 1  # of the phase
    batch: int = 0  # of the epoch: the number of batches done
    step: int = 0  # of the phase: the number of steps done
    total: float = 0.0  # sum of the loss over the epoch's customers so far
    best_epoch: int = 0
    best_error: float = math.inf
    epochs: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Schedule:
    """The length of a phase, and its learning rate: a linear warm-up, then half a cosine down to zero."""

    batch_size: int
    n_epochs: int
    n_steps: int
    max_learning_rate: float

    @classmethod
    def from_phase(cls, phase: Phase, n_customers: int, settings: Train) -> "Schedule":
        batch_size = min(settings.batch_size, max(1, n_customers // MIN_BATCHES))
        n_batches = -(-n_customers // batch_size)
        n_epochs = max(1, min(phase.epochs, settings.max_steps // n_batches))
        return cls(batch_size, n_epochs, n_epochs * n_batches, phase.learning_rate)

    def learning_rate(self, step: int) -> float:
        n_warm_up = max(1.0, WARM_UP_SHARE * self.n_steps)
        if step < n_warm_up:
            return self.max_learning_rate * (step + 1) / n_warm_up
        share_done = min(1.0, (step - n_warm_up) / (self.n_steps - n_warm_up))
        return self.max_learning_rate * (0.5 + 0.5 * math.cos(math.pi * share_done))


def train_phases(
    model: nn.Module,
    phases: list[Phase],
    examples: list[Examples],
    settings: Train,
    checkpoint: CheckpointFile,
    log: Callable[[str], None],
    on_epoch_end: Callable[[list[dict]], None] = lambda _: None,
) -> list[dict]:
    """Train `model` through all `phases`, from the checkpoint if there is one.

    Each epoch takes the next of `examples`, which differ in their imputed values. Returns all epochs as {"phase", "epoch",
    "loss", "validation"}; `on_epoch_end` gets those so far. Raises UserError for a loss that is not a number, for the
    checkpoint of another network, and where not even one customer fits into the GPU's memory; raises SystemExit after SIGTERM,
    once all is saved.
    """
    with _defer_sigterm() as sigterm_received:
        trainer = Trainer(model, settings, checkpoint, log, on_epoch_end, sigterm_received)
        trainer.load_checkpoint()
        for number, phase in enumerate(phases):
            if trainer.progress.phase == number:
                trainer.train_phase(phase, examples)
    return trainer.progress.epochs


class Trainer:
    """The state of a training, and the steps that change it."""

    def __init__(
        self,
        model: nn.Module,
        settings: Train,
        checkpoint: CheckpointFile,
        log: Callable[[str], None],
        on_epoch_end: Callable[[list[dict]], None],
        sigterm_received: Callable[[], bool],
    ):
        self.model, self.settings, self.checkpoint = model, settings, checkpoint
        self.log, self.on_epoch_end, self.sigterm_received = log, on_epoch_end, sigterm_received
        self.progress = Progress()
        self.weights = _flatten_parameters(model)
        self.device = self.weights.device
        self.moments = [torch.zeros_like(self.weights.data) for _ in range(2)]  # of AdamW
        self.best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)  # over the epoch's customers so far
        self.n_customers_done, self.phase_started, self.last_log_line = 0, 0.0, 0.0  # for the log lines of a phase
        self.n_pieces = 1  # gradient accumulation: a batch is processed in so many pieces where memory is short
        self.rank, self.world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    def train_phase(self, phase: Phase, examples: list[Examples]) -> None:
        """Train the rest of a phase, and load the best weights if the phase is validated."""
        progress, schedule = self.progress, Schedule.from_phase(phase, len(examples[0]), self.settings)
        self.loss = torch.compile(phase.loss) if phase.is_compiled and self.device.type == "cuda" else phase.loss
        if (progress.epoch, progress.batch) == (1, 0):
            phase.on_start()
        self.n_customers_done = 0
        self.phase_started = self.last_log_line = time.perf_counter()
        for epoch in range(progress.epoch, schedule.n_epochs + 1):
            if progress.batch == 0:
                phase.on_epoch_start()
            self.train_epoch(phase, examples[epoch % len(examples)], schedule)
            record = self.end_epoch(phase, len(examples[0]))
            self.on_epoch_end(progress.epochs)
            is_stalled = phase.validate is not None and epoch - progress.best_epoch >= self.settings.patience
            is_last = epoch == schedule.n_epochs or is_stalled
            self._log_epoch(record, is_last)
            progress.epoch, progress.batch = epoch + 1, 0
            if is_last:
                break
        if phase.validate is not None:
            self.log(f"best epoch {progress.best_epoch}, validation {progress.best_error:.4f}")
            self.model.load_state_dict(self.best_weights)
        self.progress = Progress(phase=progress.phase + 1, epochs=progress.epochs)
        for moment in self.moments:
            moment.zero_()

    def train_epoch(self, phase: Phase, examples: Examples, schedule: Schedule) -> None:
        """Train on the batches of the epoch that are left; save and exit after SIGTERM."""
        progress = self.progress
        self.model.train()
        random = torch.Generator().manual_seed(_seed(self.settings.seed, progress.phase, progress.epoch))
        batches = examples.iterate_batches(schedule.batch_size, random, str(self.device))
        for number, (customers, neighbour_means) in enumerate(batches):
            if number < progress.batch:
                continue  # done before the checkpoint
            must_stop = self.train_batch(customers, neighbour_means, schedule.learning_rate(progress.step))
            progress.batch, progress.step = number + 1, progress.step + 1
            self.n_customers_done += len(customers)
            if must_stop or self.checkpoint.is_due:
                self.save_checkpoint()
            if must_stop:
                self.log(f"stopped in {phase.name}, epoch {progress.epoch}, and saved; the same command resumes the training")
                raise SystemExit(128 + signal.SIGTERM)
        self.model.eval()

    def train_batch(self, customers: Tensor, neighbour_means: Tensor, learning_rate: float) -> bool:
        """Make one step on a batch (n_rows, n_inputs); return whether a process received SIGTERM."""
        loss_sum = self._backward_in_pieces(customers, neighbour_means)
        must_stop = self.sigterm_received()
        if self.world_size > 1:
            dist.all_reduce(self.weights.grad)
            sums = torch.stack([loss_sum, loss_sum.new_tensor(must_stop)])
            dist.all_reduce(sums)
            loss_sum, must_stop = sums[0], bool(sums[1])
        self.loss_sum += loss_sum
        nn.utils.clip_grad_norm_(self.weights, MAX_GRADIENT_NORM)
        self._update_weights(learning_rate)
        return must_stop

    def _backward_in_pieces(self, customers: Tensor, neighbour_means: Tensor) -> Tensor:
        """Set the gradients of a batch, in twice as many pieces whenever memory is short; return the sum of the losses."""
        progress = self.progress
        seed = _seed(self.settings.seed, progress.phase, progress.epoch, progress.batch)
        while True:
            try:
                return self._backward(customers, neighbour_means, seed)
            except torch.OutOfMemoryError:
                if self.n_pieces * self.world_size >= len(customers):
                    raise UserError(
                        "train: not even one customer at a time fits into the GPU's memory; free it, or train on another GPU"
                    ) from None
            self.n_pieces *= 2
            self.log(f"the GPU's memory is full; each batch is processed in {self.n_pieces} pieces")
            torch.cuda.empty_cache()

    def _backward(self, customers: Tensor, neighbour_means: Tensor, seed: int) -> Tensor:
        """Set the gradients of this process's part of the batch's mean loss; return the sum of its customers' losses."""
        self.weights.grad.zero_()
        loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        for rows in self._rows_of_process(len(customers)):
            torch.manual_seed(seed)  # the loss draws random numbers for the whole batch, the same in each piece and process
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                loss = self.loss(customers, neighbour_means, rows).sum()
            (loss / len(customers)).backward()
            loss_sum += loss.detach()
        return loss_sum

    def _rows_of_process(self, n_rows: int) -> Iterator[Rows]:
        """Yield this process's rows of a batch, piece by piece; the two rows of a pair stay together."""
        n_parts = self.n_pieces * self.world_size
        if n_parts == 1:
            yield slice(None)
            return
        rows = torch.arange(n_rows, device=self.device)
        for piece in range(self.n_pieces):
            part = rows[rows // 2 % n_parts == self.rank + self.world_size * piece]
            if len(part):
                yield part

    @torch.no_grad()
    def _update_weights(self, learning_rate: float) -> None:
        # the functional form, because the optimizer class imports torch's compiler, which costs 4 s on a CPU
        adamw(
            [self.weights],
            [self.weights.grad],
            self.moments[:1],
            self.moments[1:],
            [],
            [torch.full((), float(self.progress.step), device=self.device)],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self.settings.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def end_epoch(self, phase: Phase, n_customers: int) -> dict:
        """Validate, keep the weights if they are the best so far, and return the epoch's entry in meta.json."""
        progress = self.progress
        record = {
            "phase": phase.name,
            "epoch": progress.epoch,
            "loss": float(self.loss_sum) / n_customers,
            "validation": phase.validate() if phase.validate else None,
        }
        self.loss_sum.zero_()
        progress.epochs.append(record)
        if not all(math.isfinite(record[name] or 0.0) for name in ("loss", "validation")):
            raise UserError(
                f"train: the loss is not a number after epoch {progress.epoch}; "
                f"lower train.learning_rate (it is {phase.learning_rate})"
            )
        if phase.validate and record["validation"] < progress.best_error:
            progress.best_error, progress.best_epoch = record["validation"], progress.epoch
            for name, tensor in self.model.state_dict().items():
                self.best_weights[name].copy_(tensor)
        return record

    def _log_epoch(self, record: dict, is_last: bool) -> None:
        now = time.perf_counter()
        if record["epoch"] % EPOCHS_PER_LOG_LINE and not is_last and now - self.last_log_line <= SECONDS_PER_LOG_LINE:
            return
        million_per_second = self.n_customers_done / (now - self.phase_started) / 1e6
        validation = "" if record["validation"] is None else f"  validation {record['validation']:.4f}"
        losses = f"loss {record['loss']:.4f}{validation}"
        self.log(f"{record['phase']} epoch {record['epoch']}  {losses}  {million_per_second:.2f} M customers/s")
        self.last_log_line = now

    def save_checkpoint(self) -> None:
        """Write the checkpoint; of several processes the first one does, because all have the same state."""
        self.progress.total = float(self.loss_sum)
        if self.rank == 0:
            self.checkpoint.save(self._tensors(), asdict(self.progress))

    def load_checkpoint(self) -> None:
        """Continue from the checkpoint if there is one."""
        saved = self.checkpoint.load()
        if saved is None:
            return
        saved_tensors, state = saved
        tensors = self._tensors()
        if saved_tensors.keys() != tensors.keys() or any(saved_tensors[name].shape != tensors[name].shape for name in tensors):
            raise self.checkpoint.error("belongs to another network")
        for name, tensor in tensors.items():
            tensor.copy_(saved_tensors[name])
        self.progress = Progress(**state)
        self.loss_sum.fill_(self.progress.total)
        self.log(f"resumes from epoch {self.progress.epoch}, batch {self.progress.batch}")

    def _tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the checkpoint by name."""
        groups = {
            "weight": self.model.state_dict(),
            "best": self.best_weights,
            "moment": {str(order): tensor for order, tensor in enumerate(self.moments)},
        }
        return {f"{group}.{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}


def _flatten_parameters(model: nn.Module) -> nn.Parameter:
    """Return the trainable weights of `model` and their gradients as one tensor each; the layers get views of them.

    On small layers the time of a step is the number of calls, and a step on one tensor needs few.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    flat = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    flat.grad = torch.zeros_like(flat.data)
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, values, gradients in zip(parameters, flat.data.split(sizes), flat.grad.split(sizes), strict=True):
        parameter.data, parameter.grad = values.view_as(parameter), gradients.view_as(parameter)
    return flat


def _seed(*numbers: int) -> int:
    """Return a seed that depends on all numbers and their order.

    >>> _seed(17, 0, 1) == _seed(17, 0, 1) != _seed(17, 1, 0)
    True
    """
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "big") >> 1


@contextmanager
def _defer_sigterm() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGTERM was received; within this context SIGTERM does not end the process.

    Python delivers signals to the main thread only, so in any other thread the function returns False.
    """
    signals: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    handler = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        yield lambda: bool(signals)
    finally:
        signal.signal(signal.SIGTERM, handler)
