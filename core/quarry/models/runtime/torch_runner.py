"""Runs a model on a GPU with torch, in bf16."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.run_settings import ModelRunSettings
from quarry.models.torch_modules.torch_model import load_module

GPU_BATCH_TOKENS = 32_768


class TorchRunner:
    """A model on ``device``; one call at a time, since one fills the GPU.

    On CUDA it runs in bf16 under autocast: weights, layer norms and pooling stay in fp32.
    """

    batch_tokens = GPU_BATCH_TOKENS
    parallel = 1

    def __init__(self, folder: Path, settings: ModelRunSettings, device: str) -> None:
        """Raises ModelError if the model cannot be loaded or the device is not there."""
        if device == "cuda" and not torch.cuda.is_available():
            raise ModelError("the device cuda was asked for, and torch finds none")
        self._module = load_module(folder, settings).to(device)
        self._device = torch.device(device)
        self._autocast = device == "cuda"
        self._lock = threading.Lock()
        self.precision = "bf16" if self._autocast else "fp32"

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Runs the model and returns its output, float32, one row an input."""
        with (
            self._lock,
            torch.inference_mode(),
            torch.autocast("cuda", torch.bfloat16, enabled=self._autocast),
        ):
            tensors = [torch.from_numpy(array).to(self._device) for array in inputs.values()]
            output: NDArray[np.float32] = self._module(*tensors).float().cpu().numpy()
        return output
