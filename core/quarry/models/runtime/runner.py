"""Runners of models, their devices and their precisions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "int8"]
"""Of a cross-encoder on the CPU; on a GPU it is run in bf16."""


class Runner(Protocol):
    """Runs batches of token ids.

    Attributes:
        batch_tokens: size of the batches that it runs fastest, padding counted.
        parallel: how many batches it should be given at once, each from its own thread.
        precision: of its arithmetic: ``fp32``, ``bf16`` or ``int8``.
    """

    batch_tokens: int
    parallel: int
    precision: str

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]: ...


def resolve_device(device: Device) -> str:
    """Resolves ``device`` to ``cpu`` or ``cuda`` on this machine. Raises ModelError for another word."""
    if device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"the device {device!r} is not auto, cpu or cuda")
    return "cuda" if device == "cuda" or (device == "auto" and _has_cuda()) else "cpu"


def _has_cuda() -> bool:
    """Asks without importing torch, which takes seconds, on a machine that has no NVIDIA driver."""
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()
