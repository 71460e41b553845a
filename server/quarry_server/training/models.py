"""Finds the models that trainings start from."""

from pathlib import Path

from quarry.errors import ModelError
from quarry.models.sources.resolve import resolve_model
from quarry.registry.store import ModelRegistry
from quarry.training.spec import ModelRef


def find_model(registry: ModelRegistry, data: Path, name: str) -> ModelRef:
    """Finds where a version, a fetched model, a folder or a package lies. Blocks.

    Raises:
        ModelNotFoundError: no version is called so.
        FailedPreconditionError: the version is retired.
        ModelError: there is no such model.
    """
    folder = registry.locate_folder(name)
    if folder is not None:
        return ModelRef(name=name, folder=str(folder))
    try:
        return ModelRef(name=name, folder=str(resolve_model(name, data).path))
    except (OSError, RuntimeError, ValueError) as error:  # names are the callers'
        problem = f"{name[:80]!r} cannot be found: {type(error).__name__}"
        raise ModelError(problem, model=name[:80]) from error
