"""From a model's name to its tokenizer and the runner that fits the machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.base import ModelInfo
from quarry.models.export.onnx_export import MODEL_FILE, TOKENIZER_FILE, exported, exported_dimension
from quarry.models.runtime.onnx_runner import OnnxRunner
from quarry.models.runtime.quantize import quantized
from quarry.models.settings import ModelKind, ModelSettings, apart_key, read_settings
from quarry.models.sources.fingerprint import FileHashes, fingerprint
from quarry.models.sources.resolve import resolve_model
from quarry.models.tokens import TextTokenizer
from quarry.models.two_steps.split_tokens import SplitTokenizer

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "int8"]
"""Of a cross-encoder on the CPU; on a GPU it is run in bf16."""
EXPORTS = "export"
"""Beside the folder of a model that the registry holds: its exports, which go when it goes."""


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


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What an encoder or a cross-encoder is made of."""

    info: ModelInfo
    settings: ModelSettings
    tokenizer: TextTokenizer
    runner: Runner


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """A model that is ready to be loaded.

    Attributes:
        name: as the user gave it.
        fingerprint: of its outputs in fp32.
        folder: its weights.
        target: its export.
    """

    name: str
    fingerprint: str
    folder: Path
    target: Path
    settings: ModelSettings

    def info(self, precision: str = "fp32") -> ModelInfo:
        # A vector in bf16 is not the same as in fp32, so what is derived from either must not be mixed.
        suffix = "" if precision == "fp32" else f"-{precision}"
        dimension = exported_dimension(self.target)
        return ModelInfo(self.name, self.fingerprint + suffix, self.settings.max_tokens, dimension)

    def split_tokenizer(self) -> SplitTokenizer:
        """For a re-ranker that reads texts apart."""
        return SplitTokenizer(self.target / TOKENIZER_FILE, self.settings.max_tokens)


def load_model(
    name: str, kind: ModelKind, data: Path, device: Device = "auto", folder: Path | None = None
) -> LoadedModel:
    """Loads the model called ``name``; arguments and errors as ``export_model``'s.

    ``auto`` is a GPU where CUDA is installed and finds one, else the CPU.
    """
    return load_exported(export_model(name, kind, data, folder), device)


def export_model(name: str, kind: ModelKind, data: Path, folder: Path | None = None) -> ExportedModel:
    """Finds the model called ``name``; an export in ``data/models/<fingerprint>`` is made if none is sound.

    Args:
        folder: where a registered version lies; it is exported beside that. None: it is looked for by name.

    Raises:
        ModelError: it cannot be found or exported, or is of another kind.
        ModelDamagedError: it has to be exported, and its weights are not what they were.
        DiskFullError: there is no space for its export.
    """
    exports = data / "models" if folder is None else folder.parent / EXPORTS
    folder = folder or resolve_model(name, data).path
    settings = read_settings(folder, kind)
    digest = fingerprint(folder, settings, FileHashes(data / "models" / "hashes.json"))
    return ExportedModel(name, digest, folder, exported(folder, settings, exports / digest, digest), settings)


def load_exported(
    model: ExportedModel, device: Device = "auto", precision: Precision = "fp32"
) -> LoadedModel:
    """The model as a whole. Raises ModelError if it cannot be loaded or the device is not there."""
    tokenizer = (
        model.split_tokenizer()
        if apart_key(model.folder)
        else TextTokenizer(model.target / TOKENIZER_FILE, model.settings.max_tokens)
    )
    runner = _runner(device, model, precision)
    return LoadedModel(model.info(runner.precision), model.settings, tokenizer, runner)


def _runner(device: Device, model: ExportedModel, precision: Precision) -> Runner:
    if device_in_use(device) == "cuda":
        from quarry.models.runtime.torch_runner import TorchRunner

        return TorchRunner(model.folder, model.settings, "cuda")
    return onnx_runner(model.target / MODEL_FILE, precision)


def onnx_runner(graph: Path, precision: Precision) -> OnnxRunner:
    """Runs ``graph``, or its int8 copy, made if there is no sound one. Raises ModelError or DiskFullError."""
    return OnnxRunner(graph if precision == "fp32" else quantized(graph), precision)


def device_in_use(device: Device) -> str:
    """``cpu`` or ``cuda``: what ``device`` comes to on this machine. Raises ModelError for another word."""
    if device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"the device {device!r} is not auto, cpu or cuda")
    return "cuda" if device == "cuda" or (device == "auto" and _has_cuda()) else "cpu"


def _has_cuda() -> bool:
    """Asked without importing torch, which takes seconds, on a machine that has no NVIDIA driver."""
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()
