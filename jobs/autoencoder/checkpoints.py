"""What a training leaves on its way, so that a later one can go on from there."""

import json
import time

import safetensors
import safetensors.torch
from torch import Tensor

from jobs.errors import UserError
from jobs.storage import models


class Checkpoints:
    """The checkpoint of one version: tensors and facts in one file, replaced as a whole."""

    def __init__(self, root: str, version: str, seconds: float):
        self._root, self._version, self._seconds = root, version, seconds
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether `seconds` have passed since the last."""
        return time.monotonic() - self._last >= self._seconds

    def load(self) -> tuple[dict[str, Tensor], dict] | None:
        """What was last saved, None if nothing was. Raises UserError for a damaged file."""
        content = models.read_checkpoint(self._root, self._version)
        if content is None:
            return None
        try:
            tensors = safetensors.torch.load(content)
            length = int.from_bytes(content[:8], "little")
            return tensors, json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["facts"])
        except (safetensors.SafetensorError, ValueError, KeyError):
            raise UserError(self.refusal("is damaged")) from None

    def save(self, tensors: dict[str, Tensor], facts: dict) -> None:
        """Replace it; a process that is killed here leaves the one before."""
        content = safetensors.torch.save(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, {"facts": json.dumps(facts)}
        )
        models.write_checkpoint(self._root, self._version, content)
        self._last = time.monotonic()

    def refusal(self, what: str) -> str:
        """The line for a checkpoint of which `what` is wrong."""
        path = models.checkpoint_path(self._root, self._version)
        return f"train: the checkpoint {path} {what}; remove it, and training begins anew"
