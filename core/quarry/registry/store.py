"""The registry: every model that was trained for a collection or imported into it, with its files."""

import shutil
import threading
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path

import sqlalchemy as sa

from quarry.documents import catalog
from quarry.documents.store import Database
from quarry.documents.tables import connect_database
from quarry.errors import CollectionNotFoundError, FailedPreconditionError, ModelError, QuarryError
from quarry.models.blend import BLEND_FILE, RERANKER_ALONE, read_blend, write_blend
from quarry.models.calibration import read_calibration
from quarry.registry import artefacts
from quarry.registry.artefacts import MODEL
from quarry.registry.names import make_version_name, parse_name
from quarry.registry.serving import find_earlier_reranker
from quarry.registry.versions import (
    ModelState,
    ModelVersion,
    NewVersion,
    Place,
    find_deleted_keys_with_rows,
    find_next_number,
    get_version,
    insert_version,
    list_versions,
    read_states_by_place,
    remove_versions,
    retire_version,
)
from quarry.training.spec import KindName, TrainingResult

FOLDER = "registry"
MAX_DESCRIPTION_BYTES = 1_024

TakeAway = Callable[[Path, str], None]
"""Moves a path to where it can be found again; gets the reason."""

TryModel = Callable[[Path, KindName], None]
"""Loads the model in a folder, exporting it beside that, and runs it. Raises ModelError."""


class ModelRegistry:
    """Versions of one data folder: rows in the document log's database, files in ``registry``. Blocks.

    Files are in place before their row is committed, so a row never lacks them; files without a row are what
    an interrupted registration has left.

    Attributes:
        data: the folder of the server.
        root: folder of all files, below it.
    """

    def __init__(self, data: Path, database: Database, try_model: TryModel) -> None:
        self.data, self.root = data, data / FOLDER
        self._database, self._try_model = database, try_model
        self._numbering = threading.Lock()

    def register(
        self,
        collection: str,
        kind: KindName,
        folder: Path,
        result: TrainingResult | None = None,
        description: str = "",
        source: str = "",
        *,
        key: int | None = None,
        quarry_version: str = "",
    ) -> ModelVersion:
        """Makes the model in ``folder`` the collection's next version, a candidate. The folder is copied.

        The copy is loaded and run before it becomes a version. Call it in a thread: it blocks for seconds.

        Args:
            collection: its name.
            result: of the training that made it; its blend counts if the folder has none.
            description: for people, at most 1,024 bytes.
            source: what it came from, for people.
            key: the collection's, where that was known when the work began: a collection of the same name
                that was made since is another one.
            quarry_version: that made it; this one, if not given.

        Raises:
            CollectionNotFoundError: there is no such collection, or it was deleted meanwhile.
            ModelError: it cannot be loaded. Nothing is left.
            DiskFullError: as it says. Nothing is left.
        """
        found = self._read_collection(collection, key)
        staged = artefacts.stage_model(folder, self.root)
        try:
            model = staged / MODEL
            if result is not None and result.blend != RERANKER_ALONE and not (model / BLEND_FILE).exists():
                write_blend(model, result.blend)
            self._check_model(model, kind)
            manifest = artefacts.seal(staged)
            new = NewVersion(
                kind=kind,
                source=source,
                result=result,
                blend=read_blend(model),
                calibration=read_calibration(model),
                artefact_hash=manifest.hash,
                artefact_bytes=manifest.size,
                description=description,
                quarry_version=quarry_version or installed_version("quarry-search"),
            )
            return self._give_number(found, staged, new)
        except OSError as error:
            raise artefacts.make_copy_error(error) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def get(self, name: str) -> ModelVersion:
        """Raises ModelNotFoundError."""
        return self._database.read(lambda c: get_version(c, name))

    def read_page(self, collection: str, below: Place | None, limit: int) -> list[ModelVersion]:
        """Reads versions, newest first, those below a place; of all collections if none is named."""
        return self._database.read(lambda c: list_versions(c, collection, below, limit))

    def locate_folder(self, name: str) -> Path | None:
        """Locates the model of a version; None for a name that is no version's.

        Raises:
            ModelNotFoundError: there is no such version.
            FailedPreconditionError: it is retired.
        """
        if parse_name(name) is None:
            return None
        version = self.get(name)
        if version.state is ModelState.RETIRED:
            raise _refuse_retired(name)
        return self._locate(version.key, version.number) / MODEL

    def check(self, name: str) -> None:
        """Raises ModelDamagedError if a version's files have changed; other names have nothing to check."""
        if parse_name(name) is not None:
            version = self.get(name)
            artefacts.check(self._locate(version.key, version.number), version.artefact_hash, name)

    def list_kept(self) -> set[str]:
        """Lists re-rankers that serve, and those that would after a rollback."""

        def read(connection: sa.Connection) -> set[str]:
            found = catalog.list_collections(connection)
            earlier = {find_earlier_reranker(connection, collection) or "" for collection in found}
            return earlier.union(*(collection.settings.rerankers for collection in found)) - {""}

        return self._database.read(read)

    def retire(self, name: str) -> ModelVersion:
        """Marks a version and removes its files. Raises as ``retire_version``."""
        version = self._database.writer.submit(lambda c: retire_version(c, name)).result()
        shutil.rmtree(self._locate(version.key, version.number), ignore_errors=True)
        return version

    def remove_by_collection(self, key: int) -> None:
        """Removes everything of a collection that is gone."""
        self._database.writer.submit(lambda c: remove_versions(c, key)).result()
        shutil.rmtree(self.root / str(key), ignore_errors=True)

    def locate_collection(self, key: int) -> Path:
        """Locates the folder of all versions of a collection."""
        return self.root / str(key)

    def remove_leftovers(self, take_away: TakeAway) -> None:
        """Removes at the start what deletions, retirements and copies that were cut short have left.

        Args:
            take_away: gets what no row knows, and why it is not wanted. It may be what a registration has
                left that was cut short, or it may be all that is left of a version.
        """
        for key in self._database.read(find_deleted_keys_with_rows):
            self.remove_by_collection(key)
        deleted = {str(key) for key in self._database.read(catalog.read_deleted_keys)}
        known = {str(found.key) for found in self._database.read(catalog.list_collections)}
        for folder in self.root.glob("*"):
            if folder.name in deleted or folder.name.startswith(artefacts.STAGED):
                _remove(folder)
            elif folder.name in known:
                self._remove_leftover_places(folder, take_away)
            else:
                take_away(folder, "no collection has this key")

    def _remove_leftover_places(self, folder: Path, take_away: TakeAway) -> None:
        states = self._database.read(read_states_by_place)
        known = {self._locate(key, number): state for (key, number), state in states.items()}
        for place in folder.glob("*"):
            if place not in known:
                take_away(place, "no version has this number")
            elif known[place] is ModelState.RETIRED:
                _remove(place)

    def _locate(self, key: int, number: int) -> Path:
        return self.root / str(key) / str(number)

    def _read_collection(self, name: str, key: int | None) -> catalog.Collection:
        found = self._database.read(lambda c: catalog.get_collection(c, name))
        if key not in (None, found.key):
            raise CollectionNotFoundError
        return found

    def _check_model(self, model: Path, kind: KindName) -> None:
        try:
            self._try_model(model, kind)
        except ModelError as error:
            raise ModelError(str(error).replace(str(model), "the model")) from error
        except (QuarryError, OSError):
            raise
        except Exception as error:  # what libraries raise at files that they do not expect
            raise ModelError(f"the model cannot be loaded: {type(error).__name__}") from error

    def _give_number(self, collection: catalog.Collection, staged: Path, new: NewVersion) -> ModelVersion:
        """Gives the staged version its number and place; no two at once, or both would get the same."""
        key, name = collection.key, collection.settings.name

        def write(connection: sa.Connection) -> ModelVersion:
            if catalog.get_collection(connection, name).key != key:
                raise CollectionNotFoundError
            insert_version(connection, key, number, new)
            return get_version(connection, make_version_name(name, number))

        with self._numbering:
            number = self._database.read(lambda c: find_next_number(c, key))
            place = self._locate(key, number)
            artefacts.put_in_place(staged, place)
            try:
                return self._database.writer.submit(write).result()
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise


def locate_version(data: Path, name: str) -> Path | None:
    """Locates a version as ``ModelRegistry.locate_folder`` does, for the process of a job: reads the data
    folder of a server that runs."""
    if parse_name(name) is None:
        return None
    engine = connect_database(data / "documents.db", read_only=True)
    try:
        with engine.connect() as connection:
            version = get_version(connection, name)
    finally:
        engine.dispose()
    if version.state is ModelState.RETIRED:
        raise _refuse_retired(name)
    return data / FOLDER / str(version.key) / str(version.number) / MODEL


def _refuse_retired(name: str) -> FailedPreconditionError:
    return FailedPreconditionError(f"{name} is retired: its files are gone", model=name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
