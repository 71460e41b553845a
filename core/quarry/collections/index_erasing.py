"""Erases what was deleted from one generation's indexes, and records how far their files are free of it."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quarry.documents.store import DocumentLog
from quarry.storage.sync import write_durably
from quarry.waiting import TimedWork, run_to_its_end

FILE = "erased.json"


@dataclass(frozen=True, slots=True)
class ErasableIndex:
    """An index of a generation.

    Attributes:
        read_end: reads the sequence number that its files have reached; blocks.
        erase: leaves nothing in its files of documents that were deleted before.
    """

    read_end: Callable[[], int]
    erase: Callable[[], Awaitable[None]]


class ErasedMarks:
    """A sequence number for each index: its files hold nothing of what was deleted up to there.

    The log knows the deletions after that number. So an erasure that a kill interrupts is done again.

    Args:
        folder: of the generation.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sequences: dict[str, int] | None = None

    def read(self, arm: str) -> int:
        return self._load().get(arm, 0)

    def skip_to(self, arm: str, sequence: int) -> None:
        """Notes in memory that nothing was deleted up to this sequence number.

        The next ``write`` stores it. If none comes before the server ends, the log is looked through again.
        """
        self._load()[arm] = sequence

    def write(self, arm: str, sequence: int) -> None:
        """Notes for good that the arm was erased after it had followed the log up to this sequence number.

        It stores what ``skip_to`` noted, too. Raises OSError.
        """
        sequences = self._load()
        sequences[arm] = sequence
        write_durably(self._folder / FILE, json.dumps(sequences))

    def _load(self) -> dict[str, int]:
        if self._sequences is None:
            self._sequences = {}
            # what cannot be read is no loss: everything is looked at again
            with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
                stored = json.loads((self._folder / FILE).read_text(encoding="utf-8"))
                self._sequences = {str(arm): int(sequence) for arm, sequence in stored.items()}
        return self._sequences


class IndexEraser:
    """Erases the indexes of one generation, until ``close``.

    Args:
        folder: of the generation.
    """

    def __init__(self, folder: Path, log: DocumentLog) -> None:
        self._log, self._marks = log, ErasedMarks(folder)
        self._work, self._closed = TimedWork(), False

    async def erase(self, indexes: Mapping[str, ErasableIndex], before_us: int) -> None:
        """Erases deleted documents from the files of ``indexes``, if one was deleted before that time.

        Ends with CancelledError when the generation is closed, and does nothing afterwards.

        Raises ExceptionGroup of what failed; it keeps no other index from being erased.
        """
        if not self._closed:
            await self._work.wait_for_result(self._erase_all(indexes, before_us), None)

    async def close(self) -> None:
        """Ends what is being erased: the indexes are about to close. The next start finds what is left."""
        self._closed = True
        await self._work.close()

    async def _erase_all(self, indexes: Mapping[str, ErasableIndex], before_us: int) -> None:
        failures: dict[str, Exception] = {}
        for name, index in indexes.items():
            try:
                await self._erase(name, index, before_us)
            except Exception as error:  # noqa: BLE001  raised below
                failures[name] = error
        if failures:
            raise ExceptionGroup(f"not erased: {', '.join(failures)}", list(failures.values()))

    async def _erase(self, name: str, index: ErasableIndex, before_us: int) -> None:
        """Erases what was deleted up to the sequence number that the files of the index have reached."""
        until = await asyncio.to_thread(index.read_end)
        deleted_us = await asyncio.to_thread(self._log.find_deletion, self._marks.read(name), until)
        if deleted_us is None:
            self._marks.skip_to(name, until)
        elif deleted_us < before_us:
            await index.erase()
            await run_to_its_end(asyncio.to_thread(self._marks.write, name, until))
