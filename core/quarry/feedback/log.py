"""The feedback log of one server: events grouped into commits, impressions with their texts."""

import asyncio
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from quarry.documents.store import Database
from quarry.feedback.rows import EVENT_COLUMNS, IMPRESSION_COLUMNS, make_event_row
from quarry.feedback.tables import open_feedback
from quarry.feedback.types import Event

T = TypeVar("T")
MAX_GROUP_EVENTS = 5_000
_IDS_PER_QUERY = 500

_INSERT_EVENT = (
    f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}) "  # noqa: S608  names from this package
    f"VALUES ({', '.join('?' * len(EVENT_COLUMNS))})"
)
_INSERT_IMPRESSION = (
    f"INSERT OR IGNORE INTO impressions ({', '.join(IMPRESSION_COLUMNS)}) "  # noqa: S608  names from this package
    f"VALUES ({', '.join('?' * len(IMPRESSION_COLUMNS))})"
)
_INSERT_TEXT = "INSERT OR IGNORE INTO texts (content, collection_id, text) VALUES (?, ?, ?)"


class FeedbackLog:
    """Lives on one event loop. Made by ``open``, ended by ``close``.

    Attributes:
        database: with its own writer thread, so that feedback waits for no document and the other way round.
    """

    def __init__(self, path: Path, engine: sa.Engine) -> None:
        self.path, self.database = path, Database(engine)
        self._waiting: deque[tuple[int, Sequence[Event], asyncio.Future[list[bool]]]] = deque()
        self._recording: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path) -> "FeedbackLog":
        """Raises DataLossError if the file is no sound database."""
        return cls(path, await asyncio.to_thread(open_feedback, path))

    @property
    def engine(self) -> sa.Engine:
        return self.database.engine

    async def record(self, key: int, events: Sequence[Event]) -> list[bool]:
        """Stores events; once they are synced, returns for each whether its id was there before.

        All calls that wait while a commit runs share the next one. A caller that goes away leaves its events
        to be stored: it will send them again, and then they are duplicates.

        Raises DiskFullError or UnavailableError.
        """
        answer: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, events, answer))
        if self._recording is None:
            self._recording = asyncio.create_task(self._record_waiting())
        return await answer

    async def _record_waiting(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft()]
                size = len(group[0][1])
                while self._waiting and size + len(self._waiting[0][1]) <= MAX_GROUP_EVENTS:
                    group.append(self._waiting.popleft())
                    size += len(group[-1][1])
                await self._record_group(group)
        finally:
            self._recording = None

    async def _record_group(
        self, group: Sequence[tuple[int, Sequence[Event], "asyncio.Future[list[bool]]"]]
    ) -> None:
        batches = [(key, events) for key, events, _ in group]
        try:
            found = await self.database.write(lambda c: insert_events(c, batches))
        except Exception as error:  # noqa: BLE001  each caller is told
            for _, _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, _, answer), duplicates in zip(group, found, strict=True):
            if not answer.done():
                answer.set_result(duplicates)

    async def close(self) -> None:
        if self._recording is not None:
            await self._recording
        await asyncio.to_thread(self.database.close)


def insert_events(
    connection: sa.Connection, batches: Sequence[tuple[int, Sequence[Event]]]
) -> list[list[bool]]:
    """Stores events of collections; returns for each whether its id was there before, also in this call."""
    wanted: dict[int, set[str]] = {}
    for key, events in batches:
        wanted.setdefault(key, set()).update(event.event_id for event in events)
    known = {
        (key, id) for key, ids in wanted.items() for id in _find_known_events(connection, key, list(ids))
    }
    rows: list[tuple[Any, ...]] = []
    outcomes: list[list[bool]] = []
    for key, events in batches:
        duplicates: list[bool] = []
        for event in events:
            place = (key, event.event_id)
            duplicates.append(place in known)
            if place not in known:
                known.add(place)
                rows.append(make_event_row(key, event))
        outcomes.append(duplicates)
    if rows:
        connection.exec_driver_sql(_INSERT_EVENT, rows)
    return outcomes


def insert_impressions(
    connection: sa.Connection, rows: Sequence[tuple[Any, ...]], texts: Mapping[tuple[bytes, int], str]
) -> int:
    """Stores rows as ``make_impression_row`` makes them, with texts by (hash, collection); returns how
    many were new."""
    if texts:
        packed = [(content, key, pack_text(text)) for (content, key), text in texts.items()]
        connection.exec_driver_sql(_INSERT_TEXT, packed)
    if not rows:
        return 0
    return max(0, connection.exec_driver_sql(_INSERT_IMPRESSION, list(rows)).rowcount)


def pack_text(text: str) -> bytes:
    return zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


def unpack_text(data: bytes) -> str:
    return zlib.decompress(data).decode("utf-8", "surrogatepass")


def _find_known_events(connection: sa.Connection, key: int, ids: Sequence[str]) -> Iterator[str]:
    for some in split_chunks(ids, _IDS_PER_QUERY):
        marks = ",".join("?" * len(some))
        query = f"SELECT event_id FROM events WHERE collection_id = ? AND event_id IN ({marks})"  # noqa: S608
        for (id,) in connection.exec_driver_sql(query, (key, *some)):
            yield id


def split_chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
