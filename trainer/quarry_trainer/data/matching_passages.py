"""Passages of documents that match a query, read from the server's log while it goes on writing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa

from quarry.documents import log
from quarry.documents.catalog import NO_ENCODER, Collection, read_collection_by_key
from quarry.documents.passages import PassageCutter, SourceText, build_passage_texts, cut_passages_by_words
from quarry.documents.store import Database
from quarry.documents.tables import connect_database
from quarry.documents.vectors import SourceReader
from quarry.documents.view import make_view
from quarry.errors import DataLossError
from quarry.models.encoder import load_encoder
from quarry.search.matching_passage import find_matching_passage

DOCUMENTS = "documents.db"


@contextmanager
def open_documents(data: Path) -> Iterator[Database]:
    """Opens the document log in a server's data folder, for reading alone.

    Raises:
        DataLossError: there is none.
    """
    path = data / DOCUMENTS
    if not path.exists():
        raise DataLossError(f"{path} is not there: the job must be given a folder of a server's data")
    database = Database(connect_database(path, read_only=True))
    try:
        yield database
    finally:
        database.close()


def read_collection(database: Database, key: int) -> Collection:
    """Raises CollectionNotFoundError if it was deleted meanwhile."""
    return database.read(lambda connection: read_collection_by_key(connection, key))


def read_titles(data: Path, key: int, ids: Sequence[str]) -> Mapping[str, str]:
    """Reads titles as ``MatchingPassages.read_titles`` does, of a collection that is not searched.

    Raises:
        CollectionNotFoundError: it was deleted meanwhile.
        DataLossError: there is no document log.
    """
    with open_documents(data) as database:
        return MatchingPassages(database, read_collection(database, key), data).read_titles(ids)


class MatchingPassages:
    """Reads and cuts as the server does for its re-ranker where no vector was compared. Callable from any
    thread; blocks.

    The passages are those that the encoder reads, or without one ``cut_passages_by_words``. Encodes nothing;
    the encoder's tokenizer is loaded when a document is first asked for.

    Args:
        data: the server's data folder, where the encoder's export is.
    """

    def __init__(self, database: Database, collection: Collection, data: Path) -> None:
        self._database, self._collection, self._data = database, collection, data
        self._sources = SourceReader(collection.settings.schema)
        self._view = make_view(collection.settings.schema, collection.mixed_fields)

    def __call__(self, query: str, ids: Sequence[str]) -> Mapping[str, str]:
        """Finds the passage that matches the query best, by id; without documents that are not there. Empty
        for one without any word."""
        cut = {id: self._cut_passages(source) for id, source in self._read(ids).items()}
        return {id: some[find_matching_passage(query, some)] if some else "" for id, some in cut.items()}

    def read_titles(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Reads titles by id, without documents that are not there; empty for one that has none."""
        return {id: source.title for id, source in self._read(ids).items()}

    def _read(self, ids: Sequence[str]) -> Mapping[str, SourceText]:
        def read(connection: sa.Connection) -> dict[str, SourceText]:
            found = ((id, log.get_document(connection, self._collection.key, id)) for id in ids)
            return {id: self._sources.read(self._view(one.fields)) for id, one in found if one is not None}

        return self._database.read(read)

    def _cut_passages(self, source: SourceText) -> list[str]:
        if self._cutter is None:
            return cut_passages_by_words(source)
        (cut,) = self._cutter.cut([source])
        return build_passage_texts(source, cut)

    @cached_property
    def _cutter(self) -> PassageCutter | None:
        settings = self._collection.settings
        if settings.encoder == NO_ENCODER:
            return None
        return PassageCutter(load_encoder(settings.encoder, self._data, "cpu"), settings.passages)
