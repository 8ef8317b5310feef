"""The checkpoint file of a training: what a later process needs to resume it."""

import json
import time

import safetensors
import safetensors.torch
from torch import Tensor

from jobs.errors import UserError
from jobs.storage import models


class CheckpointFile:
    """The checkpoint of one model version: tensors and a JSON state in one safetensors file, replaced as a whole."""

    def __init__(self, models_root: str, version: str, interval_seconds: float):
        self._models_root, self._version, self._interval_seconds = models_root, version, interval_seconds
        self._saved_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether `interval_seconds` have passed since the last save."""
        return time.monotonic() - self._saved_at >= self._interval_seconds

    def load(self) -> tuple[dict[str, Tensor], dict] | None:
        """Return the tensors and the state last saved, or None without a file. Raises UserError for a damaged file."""
        content = models.read_checkpoint(self._models_root, self._version)
        if content is None:
            return None
        try:
            tensors = safetensors.torch.load(content)
            length = int.from_bytes(content[:8], "little")
            return tensors, json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["facts"])
        except (safetensors.SafetensorError, ValueError, KeyError):
            raise self.error("is damaged") from None

    def save(self, tensors: dict[str, Tensor], state: dict) -> None:
        """Replace the file in one step: a process killed meanwhile leaves the earlier one."""
        content = safetensors.torch.save(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, {"facts": json.dumps(state)}
        )
        models.write_checkpoint(self._models_root, self._version, content)
        self._saved_at = time.monotonic()

    def error(self, problem: str) -> UserError:
        """Return the error for a file with this problem."""
        path = models.checkpoint_path(self._models_root, self._version)
        return UserError(f"train: the checkpoint {path} {problem}; remove it to start the training again")
