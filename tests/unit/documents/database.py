"""An empty log with one collection, for the tests of what writes to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from quarry.documents import catalog
from quarry.documents.catalog import CollectionSettings
from quarry.documents.log import Upsert
from quarry.documents.tables import open_database
from quarry.schema import DEFAULT_SCHEMA


@contextmanager
def new_database(path: Path) -> Iterator[sa.Engine]:
    engine = open_database(path)
    try:
        yield engine
    finally:
        engine.dispose()


def new_collection(engine: sa.Engine, name: str = "things") -> int:
    """The key of a new collection."""
    with engine.begin() as connection:
        settings = CollectionSettings(name, DEFAULT_SCHEMA, "none")
        return catalog.create_collection(connection, settings).key


def writing(engine: sa.Engine) -> sa.Engine:
    """The engine as the writer uses it."""
    return engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")


def upsert(id: str, number: int = 0, if_version: int | None = None) -> Upsert:
    return Upsert(id, {"number": number}, if_version)
