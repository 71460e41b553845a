"""Where everything of a server lies."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from quarry.errors import DataLossError, FailedPreconditionError


class DataFolder:
    """The folder that holds everything of a server, locked while it is open."""

    def __init__(self, path: Path) -> None:
        """Raises FailedPreconditionError if another server has it, DataLossError if its log is gone."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path / "lock", thread_local=False)  # taken in one thread, released in another
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FailedPreconditionError(f"another server is using {path}", folder=str(path)) from None
        # Without rows, models would be taken for what interrupted registrations have left.
        derived = {"indexes": self.collections, "models": path / "registry"}
        held = next((what for what, folder in derived.items() if any(folder.glob("[0-9]*/*"))), None)
        if held and not self.documents.exists():
            self._lock.release()
            raise DataLossError(
                f"{path} holds {held} but no {self.documents.name}: restore it, or move the {held} away"
            )

    @property
    def documents(self) -> Path:
        return self.path / "documents.db"

    @property
    def collections(self) -> Path:
        return self.path / "collections"

    def of(self, key: int) -> Path:
        """Everything of one collection, all generations."""
        return self.collections / str(key)

    def remove_leftovers(self, needed: Mapping[int, Collection[str]]) -> None:
        """Removes the folders of deleted collections, and of generations that nothing needs.

        Args:
            needed: generations, by the collection's key.
        """
        for folder in filter(Path.is_dir, self.collections.glob("*")):
            generations = next((names for key, names in needed.items() if str(key) == folder.name), None)
            if generations is None:
                remove_folder(folder)
                continue
            for generation in filter(Path.is_dir, folder.glob("*")):
                if generation.name not in generations:
                    remove_folder(generation)

    def close(self) -> None:
        self._lock.release()


def remove_folder(folder: Path) -> None:
    """Deletes ``folder`` and what is in it; one that is not there is fine."""
    if folder.exists():
        shutil.rmtree(folder)
