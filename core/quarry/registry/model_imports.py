"""Registers models that were made elsewhere: from an archive, or by name."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from quarry.errors import InvalidArgumentError, ModelError
from quarry.models.sources.resolve import resolve_model
from quarry.registry import artefacts
from quarry.registry.archive import Passport, read_archive
from quarry.registry.names import parse_name
from quarry.registry.store import ModelRegistry
from quarry.registry.unpacking import ArchiveLimits
from quarry.registry.versions import ModelVersion
from quarry.training.spec import KindName

DEFAULT_KIND: KindName = "reranker"


@dataclass(frozen=True, slots=True)
class ModelImportPlan:
    """The model that an import reads, and its settings.

    Attributes:
        collection: name, and ``key`` its number in the log when the import began.
        kind: None: what an archive says of itself, else a re-ranker.
        source: a version, a fetched model, a folder or a package; empty with an archive.
        description: empty: what an archive says of itself.
    """

    collection: str
    key: int
    kind: KindName | None = None
    source: str = ""
    description: str = ""


@contextlib.contextmanager
def make_scratch_folder(registry: ModelRegistry) -> Iterator[Path]:
    """Makes a folder for an import, and removes it after it. Raises DiskFullError."""
    try:
        registry.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=artefacts.STAGED, dir=registry.root))
    except OSError as error:
        raise artefacts.make_copy_error(error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def import_archive(
    registry: ModelRegistry,
    plan: ModelImportPlan,
    archive: Path,
    folder: Path,
    limits: ArchiveLimits,
    stopped: Callable[[], bool],
) -> ModelVersion:
    """Registers what the archive holds. Blocks.

    Args:
        folder: to unpack it in; the caller removes it.
        stopped: whether the server is stopping, asked now and then.

    Raises:
        InvalidArgumentError: it is no archive of a model, or of a model of another kind than asked for.
        ModelError: the model cannot be loaded.
        LimitExceededError: it is too large, or the disk is full.
        UnavailableError: the server is stopping.
    """
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    model, passport = read_archive(archive, unpacked, limits, stopped)
    if passport is None:
        return _register(registry, plan, model, None, "an archive")
    return _register(registry, plan, model, passport, f"an archive of {passport.name}")


def import_source(registry: ModelRegistry, plan: ModelImportPlan) -> ModelVersion:
    """Registers the model on this machine that ``plan.source`` names. Blocks.

    Raises:
        ModelError: there is none, or it cannot be loaded.
        ModelNotFoundError: there is no such version.
        ModelDamagedError: its files have changed.
    """
    if parse_name(plan.source) is not None:
        registry.check(plan.source)
        version, folder = registry.get(plan.source), registry.locate_folder(plan.source)
        if folder is not None:
            return _register(registry, plan, folder, Passport.from_version(version), plan.source)
    try:
        folder = resolve_model(plan.source, registry.data).path
    except (OSError, RuntimeError, ValueError) as error:  # names are the callers', and some offend
        problem = f"{plan.source[:80]!r} cannot be found: {type(error).__name__}"
        raise ModelError(problem, model=plan.source[:80]) from error
    return _register(registry, plan, folder, None, plan.source)


def _register(
    registry: ModelRegistry, plan: ModelImportPlan, folder: Path, passport: Passport | None, source: str
) -> ModelVersion:
    said = passport.kind if passport else None
    if plan.kind and said and plan.kind != said:
        raise InvalidArgumentError("options.kind", f"is {plan.kind}, and the model is of the kind {said}")
    return registry.register(
        plan.collection,
        plan.kind or said or DEFAULT_KIND,
        folder,
        passport.result if passport else None,
        plan.description or (passport.description if passport else ""),
        source,
        key=plan.key,
        quarry_version=passport.quarry_version if passport else "",
    )
