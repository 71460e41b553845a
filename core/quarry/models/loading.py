"""From a model's name to its tokenizer and the runner that fits the machine."""

from dataclasses import dataclass
from pathlib import Path

from quarry.models.base import ModelInfo
from quarry.models.export.onnx_export import MODEL_FILE, TOKENIZER_FILE, ensure_export, read_dimension
from quarry.models.run_settings import ModelKind, ModelRunSettings, make_separate_key, read_settings
from quarry.models.runtime.open_graph import open_graph
from quarry.models.runtime.runner import Device, Precision, Runner, resolve_device
from quarry.models.sources.fingerprint import FileHashes, compute_fingerprint
from quarry.models.sources.resolve import resolve_model
from quarry.models.tokenization import TextTokenizer
from quarry.models.two_steps.split_tokens import SplitTokenizer

EXPORTS = "export"
"""Beside the folder of a model that the registry holds: its exports, which go when it goes."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The parts that an encoder or a cross-encoder is made of."""

    info: ModelInfo
    settings: ModelRunSettings
    tokenizer: TextTokenizer
    runner: Runner


class TransformerModel:
    """A loaded model that a batcher can drive in steps."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self.batch_tokens = model.runner.batch_tokens
        self.parallel = model.runner.parallel

    @property
    def info(self) -> ModelInfo:
        return self._model.info


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
    settings: ModelRunSettings

    def describe(self, precision: str = "fp32") -> ModelInfo:
        # A vector in bf16 is not the same as in fp32, so what is derived from either must not be mixed.
        suffix = "" if precision == "fp32" else f"-{precision}"
        dimension = read_dimension(self.target)
        return ModelInfo(self.name, self.fingerprint + suffix, self.settings.max_tokens, dimension)

    def load_tokenizer(self) -> TextTokenizer:
        """Loads the tokenizer of a model that reads whole inputs."""
        return TextTokenizer(self.target / TOKENIZER_FILE, self.settings.max_tokens)

    def load_split_tokenizer(self) -> SplitTokenizer:
        """Loads the tokenizer of a re-ranker that encodes texts separately."""
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
    digest = compute_fingerprint(folder, settings, FileHashes(data / "models" / "hashes.json"))
    return ExportedModel(
        name, digest, folder, ensure_export(folder, settings, exports / digest, digest), settings
    )


def load_exported(
    model: ExportedModel, device: Device = "auto", precision: Precision = "fp32"
) -> LoadedModel:
    """Loads the model as a whole. Raises ModelError if it cannot be loaded or the device is not there."""
    tokenizer = model.load_split_tokenizer() if make_separate_key(model.folder) else model.load_tokenizer()
    runner = _make_runner(device, model, precision)
    return LoadedModel(model.describe(runner.precision), model.settings, tokenizer, runner)


def _make_runner(device: Device, model: ExportedModel, precision: Precision) -> Runner:
    if resolve_device(device) == "cuda":
        from quarry.models.runtime.torch_runner import TorchRunner

        return TorchRunner(model.folder, model.settings, "cuda")
    return open_graph(model.target / MODEL_FILE, precision)
