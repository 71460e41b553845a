"""What promotions need of the open collections, over the log of a data folder; no index is open."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import sqlalchemy as sa

from quarry.documents.catalog import Collection, get_collection
from quarry.documents.store import Database

T = TypeVar("T")


class OneLibrary:
    """Changes rows of collections as ``Collections`` does.

    Attributes:
        loaded: re-rankers that a change has asked for, in order.
        meanwhile: runs once before the next change, as another caller would.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.loaded: list[str] = []
        self.meanwhile: Callable[[], None] | None = None

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[None]:
        self._current(name)
        yield

    async def read_current(self, name: str) -> Collection:
        return self._current(name)

    async def change(self, name: str, rerankers: Iterable[str], write: Callable[[sa.Connection], T]) -> T:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        self.loaded += rerankers
        return await self.database.write(write)

    def _current(self, name: str) -> Collection:
        return self.database.read(lambda c: get_collection(c, name))


class NothingLoaded:
    """Models of which none is loaded."""

    async def trim(self) -> None: ...

    def forget(self, name: str) -> None: ...
