"""From a model's name to its tokenizer and the runner that fits the machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.base import ModelInfo
from quarry.models.fingerprint import FileHashes, fingerprint
from quarry.models.onnx_export import MODEL_FILE, TOKENIZER_FILE, exported, exported_dimension
from quarry.models.onnx_runner import OnnxRunner
from quarry.models.packing import Arrays
from quarry.models.resolve import resolve_model
from quarry.models.settings import ModelKind, ModelSettings, read_settings
from quarry.models.tokens import TextTokenizer

Device = Literal["auto", "cpu", "cuda"]
EXPORTS = "export"
"""Beside the folder of a model that the registry holds: its exports, which go when it goes."""


class Runner(Protocol):
    """Runs batches of token ids.

    Attributes:
        batch_tokens: size of the batches that it runs fastest, padding counted.
        parallel: how many batches it should be given at once, each from its own thread.
        precision: of its arithmetic, ``fp32`` or ``bf16``.
    """

    batch_tokens: int
    parallel: int
    precision: str

    def run(self, inputs: Arrays) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What an encoder or a cross-encoder is made of."""

    info: ModelInfo
    settings: ModelSettings
    tokenizer: TextTokenizer
    runner: Runner


def load_model(
    name: str, kind: ModelKind, data: Path, device: Device = "auto", folder: Path | None = None
) -> LoadedModel:
    """Loads the model called ``name``; the first time it is exported to ``data/models/<fingerprint>``.

    ``auto`` is a GPU where CUDA is installed and finds one, else the CPU.

    Args:
        folder: where a registered version lies; it is exported beside that. None: it is looked for by name.

    Raises:
        ModelError: it cannot be found, loaded or exported, or is of another kind.
    """
    exports = data / "models" if folder is None else folder.parent / EXPORTS
    folder = folder or resolve_model(name).path
    settings = read_settings(folder, kind)
    digest = fingerprint(folder, settings, FileHashes(data / "models" / "hashes.json"))
    target = exported(folder, settings, exports / digest)
    runner = _runner(device, folder, settings, target)
    # A vector in bf16 is not the same as in fp32, so what is derived from either must not be mixed.
    suffix = "" if runner.precision == "fp32" else f"-{runner.precision}"
    info = ModelInfo(name, digest + suffix, settings.max_tokens, exported_dimension(target))
    return LoadedModel(info, settings, TextTokenizer(target / TOKENIZER_FILE, settings.max_tokens), runner)


def _runner(device: Device, folder: Path, settings: ModelSettings, target: Path) -> Runner:
    if device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"the device {device!r} is not auto, cpu or cuda")
    if device_in_use(device) == "cuda":
        from quarry.models.torch_runner import TorchRunner

        return TorchRunner(folder, settings, "cuda")
    return OnnxRunner(target / MODEL_FILE)


def device_in_use(device: Device) -> str:
    """``cpu`` or ``cuda``: what ``device`` comes to on this machine."""
    return "cuda" if device == "cuda" or (device == "auto" and _has_cuda()) else "cpu"


def _has_cuda() -> bool:
    """Asked without importing torch, which takes seconds, on a machine that has no NVIDIA driver."""
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()
