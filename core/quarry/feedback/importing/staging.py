"""Brings the records of a UBI log together by query: they may stand anywhere in a file larger than memory.

A temporary database beside the file holds them; it is removed at the end, and worthless after a crash.
"""

import sqlite3
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path

import orjson

from quarry.errors import LimitExceededError
from quarry.feedback.importing.ubi import Record

_ROWS_PER_FETCH = 1_000
MAX_APPLICATIONS = 10_000
"""Of which a log has positions; what they count from is in memory."""


class Staging:
    """Filled by ``add``, then read by ``iterate_queries``; ``close`` removes it. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF"):
            self._database.execute(f"PRAGMA {pragma}").close()
        self._database.execute("CREATE TABLE records (search TEXT, line INTEGER, record BLOB)")
        self._bases: dict[str, int] = {}

    def add(self, records: list[tuple[int, Record]]) -> None:
        """Adds records with the numbers of their lines. Raises LimitExceededError for too many
        applications."""
        rows = [(record["search"], line, orjson.dumps(record)) for line, record in records]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
        self._database.execute("COMMIT")
        for _, record in records:
            ordinal = record.get("ordinal")
            if ordinal is not None:
                known = self._bases.get(record["application"], 1)
                self._bases[record["application"]] = min(known, ordinal)
        if len(self._bases) > MAX_APPLICATIONS:
            raise LimitExceededError(f"the log names over {MAX_APPLICATIONS} applications: send it in parts")

    def find_base(self, application: str) -> int:
        """Finds what the ordinals of an application count from, 0 or 1."""
        return self._bases.get(application, 1)

    def __len__(self) -> int:
        (count,) = self._database.execute("SELECT COUNT(*) FROM records").fetchone()
        return int(count)

    def iterate_queries(self, most: int) -> Iterator[tuple[list[tuple[int, Record]], bool]]:
        """Yields the records of each query, in the order of their lines, at most ``most``, and False.

        Records of the same query beyond that follow, some at a time, with True.
        """
        self._database.execute("CREATE INDEX by_search ON records (search, line)")
        cursor = self._database.execute("SELECT search, line, record FROM records ORDER BY search, line")
        rows = (
            (s, line, r)
            for some in iter(lambda: cursor.fetchmany(_ROWS_PER_FETCH), [])
            for s, line, r in some
        )
        for _, group in groupby(rows, key=lambda row: row[0]):
            yield [(line, orjson.loads(record)) for _, line, record in islice(group, most)], False
            while surplus := [(line, Record()) for _, line, _ in islice(group, _ROWS_PER_FETCH)]:
                yield surplus, True

    def close(self) -> None:
        self._database.close()
        self._path.unlink(missing_ok=True)
