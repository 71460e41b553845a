"""States of passages that outlive the server, in one SQLite file of bounded size; those used longest ago go.

It is a cache. States that do not match their checksum are made again, and a file that SQLite cannot read is
set aside and begun anew.
"""

import logging
import queue
import sqlite3
import struct
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from quarry.errors import DiskFullError
from quarry.models.caches.state_forms import States
from quarry.storage.cache_file import CacheFile, write_all

logger = logging.getLogger(__name__)

DIGEST_BYTES = 16
"""A key is a digest of what made the states, and one of their text."""
ENTRY_BYTES = 128
"""On disk beside the states: key, header and places in table and index."""
HEADER = struct.Struct("<IIII")  # CRC-32 of key and the rest, kind of number, tokens, numbers a token
KINDS = (np.dtype("<f2"), np.dtype("u1"))
WAITING, AT_ONCE = 1_024, 64
"""States that may wait to be written, some 100 MB of passages of 128 tokens; and those of one transaction."""
QUERY_KEYS = 100
ROOM_S = 0.2
"""Between two looks at whether the writer still makes room."""
SAY_AGAIN_S = 60.0
"""Between two lines of the log about a file that cannot be read: every search asks for it."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS state (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, used INTEGER NOT NULL, value BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS state_key ON state (key);
"""
_PUT = "INSERT OR REPLACE INTO state (key, used, value) VALUES (?, ?, ?)"
_TOUCH = "UPDATE state SET used = ? WHERE key = ?"
_DELETE = "DELETE FROM state WHERE key = ?"
_FAILURES = (DiskFullError, sqlite3.Error, OSError)
"""What reading and writing the file may raise."""
_ALL = "SELECT key, used, length(value) FROM state ORDER BY used, id"


class StateStore:
    """States by ``make_state_key``.

    Callable from any thread. All methods block but ``put_later`` and ``find_known``.

    Attributes:
        bytes: on disk now; over ``max_bytes`` only while something is written.
        damaged: states that did not match their checksum, so far.
        dropped: states that were not written, since too many waited or the disk was full.

    Args:
        max_bytes: at least 1; what is over it at the start goes.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._file = CacheFile(path, SCHEMA, "store of passage states")
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._sizes: OrderedDict[bytes, int] = OrderedDict()  # the one used last is last
        self._touched: dict[bytes, int] = {}
        self._undeleted: set[bytes] = set()
        self._closed = False
        self._clock = self.bytes = self.damaged = self.dropped = 0
        self._begun_anew = self._file.begun_anew
        self._say_again_s = 0.0
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise
        self._waiting: queue.Queue[tuple[bytes, States] | None] = queue.Queue(WAITING)
        self._writer = threading.Thread(target=self._write_waiting, name="passage-states", daemon=True)
        self._writer.start()

    def __len__(self) -> int:
        return len(self._sizes)

    def find_known(self, keys: Collection[bytes]) -> set[bytes]:
        """Finds those that are stored now; asking is no use."""
        with self._lock:
            return {key for key in keys if key in self._sizes}

    def has_room_for(self, states: Iterable[States]) -> bool:
        """Tells whether storing these too pushes nothing out."""
        return self.bytes + sum(map(_measure_size, states)) <= self._max_bytes

    def get_many(self, keys: Collection[bytes]) -> dict[bytes, States]:
        """Returns what is stored under ``keys``, each in an array of its own.

        Nothing if the file cannot be read.
        """
        wanted = list(self.find_known(keys))
        found: dict[bytes, States] = {}
        for start in range(0, len(wanted), QUERY_KEYS):
            rows = self._run_select(wanted[start : start + QUERY_KEYS])
            found |= {key: _decode(value) for key, value in rows if _is_intact(key, value)}
            damaged = [key for key, value in rows if not _is_intact(key, value)]
            if damaged:
                logger.warning("%d stored passage states are damaged, and will be made again", len(damaged))
                self._drop(damaged)
        with self._lock:
            for key in found:
                self._use(key)
        return found

    def put_many(self, states: Mapping[bytes, States]) -> None:
        """Stores them in place of what was there; what was used longest ago makes room.

        Raises DiskFullError.
        """
        fitting = {key: one for key, one in states.items() if _measure_size(one) <= self._max_bytes}
        with self._writing:  # so that nobody deletes what another has stored meanwhile
            with self._lock:
                for key, one in fitting.items():
                    self._count(key, _measure_size(one))
                gone = self._forget_excess()
                left = {key: self._use(key) for key in fitting if key in self._sizes}
                touched, self._touched = self._touched, {}
            try:
                puts = [(key, used, _encode(key, fitting[key])) for key, used in left.items()]
                self._write(puts, touched, gone)
            except Exception:
                with self._lock:
                    for key in fitting:
                        self._forget(key)
                    self._undeleted.update(fitting)  # what was there before
                raise

    def put_later(self, key: bytes, states: States) -> None:
        """Stores states behind the caller's back, who reads an answer meanwhile."""
        try:
            self._waiting.put_nowait((key, states))
        except queue.Full:
            self.dropped += 1

    def find_of_texts(self, digests: Collection[bytes]) -> list[bytes]:
        """Finds the keys of all states of these texts, also of those that could not be deleted before."""
        with self._lock:
            return [key for key in (*self._sizes, *self._undeleted) if key[DIGEST_BYTES:] in digests]

    def erase(self, keys: Sequence[bytes]) -> None:
        """Deletes what is stored under ``keys``. Raises DiskFullError."""
        with self._writing:
            with self._lock:
                for key in keys:
                    self._forget(key)
            self._write([], {}, keys)

    def empty_log(self) -> None:
        """Cuts the file's log, as ``CacheFile.empty_log`` does."""
        self._file.empty_log()

    def close(self) -> None:
        """Writes what waits; a second time it does nothing."""
        if self._closed:
            return
        self._closed = True
        self._end_writer()
        try:
            self.put_many({})  # when what was read was used
        except _FAILURES as error:
            logger.warning("%s: what was used last is not noted", error)
        self._file.close()

    def _end_writer(self) -> None:
        while self._writer.is_alive():  # one that is dead makes no room
            try:
                self._waiting.put(None, timeout=ROOM_S)
            except queue.Full:
                continue
            self._writer.join()

    def _write_waiting(self) -> None:
        open_ = True
        while open_:
            some = [self._waiting.get()]
            while len(some) < AT_ONCE and not self._waiting.empty():
                some.append(self._waiting.get())
            open_ = None not in some
            waiting = dict(one for one in some if one is not None)
            try:
                self.put_many(waiting)
            except _FAILURES as error:
                self.dropped += len(waiting)
                logger.warning("%d passage states are not stored: %s", len(waiting), error)
            except Exception:
                self.dropped += len(waiting)
                logger.exception(
                    "%d passage states are not stored, by an error that has no type", len(waiting)
                )

    def _load(self) -> None:
        rows: list[tuple[bytes, int, int]] = self._file.run(lambda c: c.execute(_ALL).fetchall(), [])
        for key, used, length in rows:
            self._count(key, length + ENTRY_BYTES)
            self._clock = max(self._clock, used)
        gone = self._forget_excess()
        try:
            self._write([], {}, gone)
            if gone:  # the bound was lowered: SQLite gives nothing back by itself
                self._file.run(lambda c: c.execute("VACUUM"), None)
        except DiskFullError as error:
            logger.warning("%s: what is over its bound stays", error)

    def _run_select(self, keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        marks = ", ".join("?" * len(keys))
        statement = f"SELECT key, value FROM state WHERE key IN ({marks})"  # noqa: S608
        rows: list[tuple[bytes, bytes]] = []
        try:
            rows = self._file.run(lambda c: c.execute(statement, keys).fetchall(), [])
        except _FAILURES as error:
            self._say_unreadable(error)
        self._clear_if_begun_anew()
        return rows

    def _say_unreadable(self, error: Exception) -> None:
        now_s = time.monotonic()
        with self._lock:
            if now_s < self._say_again_s:
                return
            self._say_again_s = now_s + SAY_AGAIN_S
        logger.error("stored passage states cannot be read, and are made again: %s", error)

    def _write(
        self, puts: Sequence[tuple[bytes, int, bytes]], touched: Mapping[bytes, int], gone: Sequence[bytes]
    ) -> None:
        """Writes all of it or nothing. What it should have deleted is deleted with the next write, then."""
        with self._lock:
            self._undeleted.update(gone)
            deleted = list(self._undeleted)
        writes = (
            (_DELETE, [(key,) for key in deleted]),
            (_TOUCH, [(used, key) for key, used in touched.items()]),
            (_PUT, puts),
        )
        self._file.run(lambda c: write_all(c, *writes), None)
        with self._lock:
            self._undeleted.difference_update(deleted)
        self._clear_if_begun_anew()

    def _drop(self, keys: Sequence[bytes]) -> None:
        with self._writing:
            with self._lock:
                self.damaged += len(keys)
                for key in keys:
                    self._forget(key)
            try:
                self._write([], {}, keys)
            except _FAILURES as error:
                logger.warning("%s: they stay there until something is written", error)

    def _clear_if_begun_anew(self) -> None:
        """Forgets all that was stored, if the file was begun anew."""
        with self._lock:
            if self._begun_anew != self._file.begun_anew:
                self._begun_anew = self._file.begun_anew
                self._sizes.clear()
                self._touched.clear()
                self._undeleted.clear()
                self.bytes = 0

    def _use(self, key: bytes) -> int:
        """Notes that it was used, and when; called with the lock held."""
        self._clock += 1
        if key in self._sizes:
            self._sizes.move_to_end(key)
            self._touched[key] = self._clock
        return self._clock

    def _count(self, key: bytes, size: int) -> None:
        self._forget(key)
        self._sizes[key] = size
        self.bytes += size

    def _forget_excess(self) -> list[bytes]:
        """Forgets what is over the bound, and says what; called with the lock held."""
        gone = []
        while self.bytes > self._max_bytes:
            key = next(iter(self._sizes))
            self._forget(key)
            gone.append(key)
        return gone

    def _forget(self, key: bytes) -> None:
        self.bytes -= self._sizes.pop(key, 0)
        self._touched.pop(key, None)


def remove_store(path: Path) -> None:
    """Removes what was stored, where nothing is to be."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _measure_size(states: States) -> int:
    return states.nbytes + HEADER.size + ENTRY_BYTES


def _encode(key: bytes, states: States) -> bytes:
    tokens, numbers = states.shape
    header = HEADER.pack(0, KINDS.index(states.dtype), tokens, numbers)[4:]
    body = states.astype(states.dtype.newbyteorder("<"), copy=False).tobytes()
    return zlib.crc32(key + header + body).to_bytes(4, "little") + header + body


def _is_intact(key: bytes, value: bytes) -> bool:
    """Tells whether the bytes are those that were written under this key."""
    if len(value) < HEADER.size:
        return False
    checksum, kind, tokens, numbers = HEADER.unpack_from(value)
    if kind >= len(KINDS) or len(value) != HEADER.size + tokens * numbers * KINDS[kind].itemsize:
        return False
    return zlib.crc32(value[4:], zlib.crc32(key)) == int(checksum)


def _decode(value: bytes) -> States:
    _, kind, tokens, numbers = HEADER.unpack_from(value)
    states: States = np.ndarray((tokens, numbers), KINDS[kind], value, HEADER.size).copy()
    return states
