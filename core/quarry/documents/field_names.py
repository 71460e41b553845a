"""Which fields the documents of a collection have, whether or not its schema names them."""

import asyncio
from collections.abc import Collection

from quarry.documents.store import DocumentLog

CHANGES, CHANGE_BYTES = 1_000, 4_000_000
"""The log is read in steps of so many changes, and of fewer once they have so many bytes."""


class FieldNames:
    """Finds names of fields in the log, from the first document on that it has not read yet.

    A name that was found once stays known. So every document is read at most once, and a name that most
    documents have costs one step.
    """

    def __init__(self, log: DocumentLog) -> None:
        self._log = log
        self._reading = asyncio.Lock()
        self._known: set[str] = set()
        self._position = 0

    async def find_missing(self, names: Collection[str]) -> set[str]:
        """Returns those of ``names`` that no document has."""
        async with self._reading:
            while missing := set(names) - self._known:
                changes = await asyncio.to_thread(self._log.changes, self._position, CHANGES, CHANGE_BYTES)
                if not changes:
                    return missing
                for change in changes:
                    self._known.update(change.fields or ())
                self._position = changes[-1].version
        return set()
