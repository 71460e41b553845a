"""Exports a model from torch to ONNX, once: a folder of its graph, its tokenizer and its settings."""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from quarry.errors import ModelError
from quarry.models.onnx_graph import seeded_tokens, write_graph
from quarry.models.settings import ModelSettings, read_json
from quarry.models.split_parts import SplitParts
from quarry.shown import shown_error

MODEL_FILE, TOKENIZER_FILE, SETTINGS_FILE = "model.onnx", "tokenizer.json", "quarry.json"
_PARTS = "parts"
"""In the settings file: of a split cross-encoder, what its two graphs are."""


def exported(folder: Path, settings: ModelSettings, target: Path) -> Path:
    """``target``, holding the model as ONNX, its tokenizer and settings; exports it if it is not there.

    The folder appears complete or not at all, and processes that want it at once wait for one of them.

    Raises:
        ModelError: the model cannot be loaded or exported, or differs from torch by more than ``PARITY``.
        OSError: the target cannot be written.
    """
    if is_exported(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not is_exported(target):
            temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".export-"))
            try:
                _export(folder, settings, temporary)
                temporary.replace(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return target


def is_exported(target: Path) -> bool:
    """Whether the folder holds a finished export; it is renamed into place as a whole."""
    return (target / MODEL_FILE).exists()


def exported_dimension(target: Path) -> int:
    """Dimension of the vectors of an exported encoder; 0 for a cross-encoder."""
    return int(read_json(target / SETTINGS_FILE)["dimension"])


def exported_parts(target: Path) -> SplitParts | None:
    """The two graphs of an exported split cross-encoder; None for another model, or if they failed."""
    parts = read_json(target / SETTINGS_FILE).get(_PARTS)
    return None if parts is None else SplitParts(**parts)


def _export(folder: Path, settings: ModelSettings, target: Path) -> None:
    from quarry.models.split_export import export_parts
    from quarry.models.split_module import SplitModule
    from quarry.models.torch_model import load_module

    _write_tokenizer(folder, target / TOKENIZER_FILE)
    module = load_module(folder, settings, attention="eager")
    vocabulary = _vocabulary(folder, settings)
    try:
        shape = write_graph(
            module,
            lambda shape, seed: seeded_tokens(settings, shape, seed, vocabulary),
            settings.max_tokens,
            target / MODEL_FILE,
        )
    except ModelError as error:
        raise ModelError(f"{folder} cannot be exported to ONNX: {error}") from error
    facts: dict[str, Any] = {**settings.to_json(), "dimension": shape[0] if shape else 0}
    if isinstance(module, SplitModule):
        parts = export_parts(module, settings, vocabulary, target, target / MODEL_FILE)
        facts[_PARTS] = None if parts is None else asdict(parts)
    (target / SETTINGS_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _write_tokenizer(folder: Path, target: Path) -> None:
    """Copies tokenizer.json, or makes one of what a slow tokenizer has."""
    if (folder / TOKENIZER_FILE).exists():
        shutil.copyfile(folder / TOKENIZER_FILE, target)
        return
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer.backend_tokenizer.save(str(target))
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise ModelError(
            f"{folder} has no tokenizer.json, and none can be made: {shown_error(error)}"
        ) from error


def _vocabulary(folder: Path, settings: ModelSettings) -> int:
    return int(read_json(folder / settings.weights / "config.json")["vocab_size"])
