"""The input of a job: documents and feedback of one collection, while the server goes on writing both."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from quarry.clicks.log import ClickLog, read_clicks
from quarry.documents import log
from quarry.documents.catalog import Collection, list_collections
from quarry.documents.store import Database
from quarry.documents.tables import connect_database
from quarry.errors import CollectionNotFoundError, DataLossError
from quarry.feedback.reading.guards import GuardPolicy
from quarry.feedback.reading.observed_pages import END_OF_TIME_US
from quarry.feedback.tables import FILE_NAME

DOCUMENTS = "documents.db"


@dataclass(frozen=True, slots=True)
class Logs:
    """Made by ``open_logs``.

    Attributes:
        data: the server's data folder.
        documents: its document log, for reading alone.
    """

    data: Path
    documents: Database

    def read_collection(self, key: int) -> Collection:
        """Raises CollectionNotFoundError if it was deleted meanwhile."""
        for collection in self.documents.read(list_collections):
            if collection.key == key:
                return collection
        raise CollectionNotFoundError

    def read_versions(self, key: int) -> dict[str, int]:
        """Reads the version of every document that exists, by id."""

        def read(connection: sa.Connection) -> dict[str, int]:
            return {id: version for _, id, version, gone in log.read_versions(connection, key) if not gone}

        return self.documents.read(read)

    def read_clicks(
        self, key: int, guards: GuardPolicy, start_us: int | None = None, end_us: int | None = None
    ) -> ClickLog:
        """Reads pages that were answered in [start_us, end_us); none if feedback was never kept."""
        end = END_OF_TIME_US if end_us is None else end_us
        return read_clicks(self.data / FILE_NAME, key, guards, start_us or 0, end)


@contextmanager
def open_logs(data: Path) -> Iterator[Logs]:
    """Raises DataLossError if there is no document log."""
    path = data / DOCUMENTS
    if not path.exists():
        raise DataLossError(f"{path} is not there: the job must be given a folder of a server's data")
    database = Database(connect_database(path, read_only=True))
    try:
        yield Logs(data, database)
    finally:
        database.close()


def compute_clicks_digest(clicks: ClickLog) -> str:
    """Computes a digest of every page, what became of it, and whose it is."""
    digest = hashlib.blake2b(np.ascontiguousarray(clicks.owner).tobytes(), digest_size=16)
    for names in (clicks.queries, clicks.documents):
        for name in names:
            digest.update(name.encode("utf-8", "surrogatepass") + b"\0")
    for name in (
        "query",
        "session",
        "time_us",
        "document",
        "rank",
        "clicked",
        "refused",
        "rank_before",
        "rank_probability",
        "ranker",
        "rendered",
    ):
        if (values := getattr(clicks, name)) is not None:
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def compute_versions_digest(versions: dict[str, int]) -> str:
    """Computes a digest of which documents there are, and as they were last written."""
    digest = hashlib.blake2b(digest_size=16)
    for id in sorted(versions):
        digest.update(f"{id}\0{versions[id]}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
