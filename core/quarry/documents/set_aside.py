"""Large changes that are prepared beside the log, so that small ones after them need not wait."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from quarry.retrieval.definition import FollowedIndex
from quarry.types import Change, Docno, Fields
from quarry.waiting import TellProgress, end

LARGE_CHARS = 2**15
"""Text of a document that takes some two seconds to encode on one core."""
MOST_CHARS = 2**24
"""Text that is set aside at a time; more of it waits in the log."""
AT_ONCE = 2
"""Changes that are prepared at a time: one is cut while another is encoded."""


@runtime_checkable
class PreparingIndex(FollowedIndex, Protocol):
    """An index that can do the slow part of a change before the change is applied."""

    async def prepare(self, change: Change, tell: TellProgress) -> None:
        """Does the slow part, so that ``apply`` of the change is quick. Searches find the same as before.

        Args:
            tell: is told how much of it is done, now and then.
        """
        ...


@dataclass(frozen=True, slots=True)
class Preparation:
    """Says how far the preparation of a large change is.

    Attributes:
        version: sequence number of the change.
        done: parts of it that are prepared.
        total: its parts; 0 while that is not known.
    """

    version: int
    done: int = 0
    total: int = 0


@dataclass(slots=True)
class _Waiting:
    change: Change
    chars: int
    done: int = 0
    total: int = 0
    task: "asyncio.Task[None]" = field(init=False)

    def note_progress(self, done: int, total: int) -> None:
        self.done, self.total = done, total


class SetAside:
    """The large changes of one follower that are being prepared. Lives on one event loop.

    Args:
        on_prepared: called when one is prepared, or has failed.
    """

    def __init__(self, index: FollowedIndex, on_prepared: Callable[[], None]) -> None:
        self._index = index if isinstance(index, PreparingIndex) else None
        self._on_prepared = on_prepared
        self._waiting: dict[Docno, _Waiting] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    @property
    def is_full(self) -> bool:
        return sum(one.chars for one in self._waiting.values()) >= MOST_CHARS

    @property
    def versions(self) -> list[int]:
        """The sequence numbers of the changes that are here."""
        return [one.change.version for one in self._waiting.values()]

    def list_preparations(self, versions: Iterable[int]) -> list[Preparation]:
        """Lists how far the changes with these sequence numbers are, in order."""
        here = {one.change.version: one for one in self._waiting.values()}
        return [
            Preparation(version, one.done, one.total) if (one := here.get(version)) else Preparation(version)
            for version in sorted(versions)
        ]

    def limit(self, sequence: int) -> int:
        """Returns the last sequence number before the first of these changes; without any, ``sequence``."""
        return min((version - 1 for version in self.versions), default=sequence)

    async def sort(self, changes: Sequence[Change]) -> list[Change]:
        """Takes in the large ones of the next changes of the log.

        Returns what can be applied now: the changes that are prepared, which leave, and the small ones.
        Raises what the preparation of one raised.
        """
        new = [change for change in changes if not self._keep(change)]
        await self._drop({change.docno for change in new})
        ready = [one.change for one in self._waiting.values() if one.task.done()]
        for change in ready:
            self._waiting.pop(change.docno).task.result()
        for change in new:
            if self._index is None or (chars := _count_chars(change.fields)) < LARGE_CHARS:
                ready.append(change)
            else:
                self._waiting[change.docno] = waiting = _Waiting(change, chars)
                waiting.task = asyncio.create_task(self._prepare(self._index, waiting))
        return ready

    def _keep(self, change: Change) -> bool:
        """Lets ``change`` take the place of one with the same content, whose preparation serves both."""
        waiting = self._waiting.get(change.docno)
        if waiting is None or waiting.change.fields != change.fields:
            return False
        waiting.change = change
        return True

    async def clear(self) -> None:
        """Gives up what is being prepared, and forgets all of it."""
        await self._drop(list(self._waiting))

    async def _drop(self, docnos: Iterable[Docno]) -> None:
        dropped = [self._waiting.pop(docno).task for docno in docnos if docno in self._waiting]
        await end(dropped)
        for task in dropped:
            if not task.cancelled():
                task.exception()  # looked at: the change is prepared again, if it is still in the log

    async def _prepare(self, index: PreparingIndex, waiting: _Waiting) -> None:
        try:
            async with self._turns:
                await index.prepare(waiting.change, waiting.note_progress)
        finally:
            self._on_prepared()


def _count_chars(fields: Fields | None) -> int:
    """Counts the characters of a document's texts, lists of them included."""
    values = fields.values() if fields else ()
    texts = (text for value in values for text in (value if isinstance(value, list) else [value]))
    return sum(len(text) for text in texts if isinstance(text, str))
