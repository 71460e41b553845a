"""Exports a model from torch to ONNX, once: a folder of its graph, its tokenizer and its settings."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from quarry.errors import DiskFullError, ModelDamagedError, ModelError
from quarry.models.export.onnx_graph import draw_tokens, write_graph
from quarry.models.run_settings import ModelRunSettings, read_json
from quarry.models.sources.fingerprint import FileHashes, compute_fingerprint
from quarry.quoting import quote_error
from quarry.storage.disk import is_disk_full
from quarry.storage.sealed_files import MANIFEST, find_damage, seal_folder
from quarry.storage.sync import sync_path

MODEL_FILE, TOKENIZER_FILE, SETTINGS_FILE = "model.onnx", "tokenizer.json", "quarry.json"

_log = logging.getLogger(__name__)


def ensure_export(folder: Path, settings: ModelRunSettings, target: Path, digest: str = "") -> Path:
    """Exports the model to ``target`` as ONNX, with its tokenizer and settings, unless a sound export is
    there.

    The folder appears complete or not at all, and processes that want it at once wait for one of them. All of
    it is read and compared with the hashes that were written down when it was made.

    Args:
        digest: the fingerprint that the weights must have when they are exported; empty: none is known.

    Raises:
        ModelError: the model cannot be loaded or exported, or differs from torch by more than ``PARITY``.
        ModelDamagedError: the weights are not those of ``digest``.
        DiskFullError: there is no space for the export.
        OSError: the target cannot be written.
    """
    if not find_damage(target / MANIFEST):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            problem = find_damage(target / MANIFEST)
            if problem and target.exists():
                _log.warning("the export %s is made again: %s", target, problem)
            if problem:
                _replace(target, lambda new: _export(folder, settings, new, digest))
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(f"the disk is full: {folder.name} cannot be exported") from error
        raise
    return target


def _replace(target: Path, make: Callable[[Path], None]) -> None:
    """Puts what ``make`` writes to a folder, sealed, in the place of ``target``; its lock is held."""
    prefix = f".{target.name}-"
    for leftover in target.parent.glob(f"{prefix}*"):  # of a process that died while it exported
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix))
    damaged = temporary.with_name(f"{temporary.name}-damaged")
    try:
        make(temporary)
        seal_folder(temporary)
        if target.exists():  # a rename replaces no folder that holds something
            target.replace(damaged)
        temporary.replace(target)
        sync_path(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)


def read_dimension(target: Path) -> int:
    """Reads the dimension of the vectors of an exported encoder; 0 for a cross-encoder."""
    return int(read_export_facts(target)["dimension"])


def read_export_facts(target: Path) -> dict[str, Any]:
    """Reads what was written down of an export when it was made."""
    facts: dict[str, Any] = read_json(target / SETTINGS_FILE)
    return facts


def _export(folder: Path, settings: ModelRunSettings, target: Path, digest: str) -> None:
    from quarry.models.export.separate_export import export_steps
    from quarry.models.torch_modules.separate_layers import SeparateLayers
    from quarry.models.torch_modules.torch_model import load_module

    if digest and compute_fingerprint(folder, settings, FileHashes(None)) != digest:
        raise ModelDamagedError(
            f"the weights in {folder} have changed although their time stamps have not", path=str(folder)
        )
    _write_tokenizer(folder, target / TOKENIZER_FILE)
    module = load_module(folder, settings, attention="eager")
    vocabulary = _count_vocabulary(folder, settings)
    try:
        shape = write_graph(
            module,
            lambda shape, seed: draw_tokens(settings, shape, seed, vocabulary),
            settings.max_tokens,
            target / MODEL_FILE,
        )
    except ModelError as error:
        raise ModelError(f"{folder} cannot be exported to ONNX: {error}") from error
    facts: dict[str, Any] = {**settings.to_json(), "dimension": shape[0] if shape else 0}
    if isinstance(module, SeparateLayers):
        facts |= export_steps(module, settings, vocabulary, target, target / MODEL_FILE)
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
            f"{folder} has no tokenizer.json, and none can be made: {quote_error(error)}"
        ) from error


def _count_vocabulary(folder: Path, settings: ModelRunSettings) -> int:
    return int(read_json(folder / settings.weights / "config.json")["vocab_size"])
