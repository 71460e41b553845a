"""Encodes many texts a slice at a time, so that nobody waits for all of them.

The encoder runs what waits in the order of its arrival. A collection has two slices there at most, so those
of other collections come in between; the more collections encode, the shorter their slices are. And of the
texts of one collection, whoever has waited longest gives the next slice.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from quarry.models.runtime.batcher import EncoderBatcher, Priority
from quarry.waiting import TellProgress, end, tell_nobody

TURN_S = 0.25
"""Encoding that a slice is likely to take: slices of this size cost up to 4 % more CPU than all at once."""
LONGEST_WAIT_S = 1.5
"""Encoding that the slices of all collections together are likely to take, of a batch each at least."""
MOST_AT_A_TURN = 512
AT_ONCE = 2
"""Slices of a collection that wait or run: one is prepared while another runs, so that no thread idles."""
_CALLS: "WeakKeyDictionary[EncoderBatcher, Counter[EncodingTurns]]" = WeakKeyDictionary()
"""How many calls of each collection each encoder works for now."""


class EncodingTurns:
    """The turns of one collection. Lives on one event loop at a time."""

    def __init__(self, encoder: EncoderBatcher, turn_s: float = TURN_S) -> None:
        self._encoder, self._turn_s = encoder, turn_s
        self._places = asyncio.Semaphore(AT_ONCE)

    async def encode(self, texts: Sequence[str], tell: TellProgress = tell_nobody) -> NDArray[np.float32]:
        """Encodes unit vectors, float32, shape ``(len(texts), dimension)``. Raises as ``Batcher.run``.

        Args:
            tell: called at the beginning and after each slice.
        """
        vectors = np.empty((len(texts), self._encoder.info.dimension), np.float32)
        with self._note_call():
            await self._encode_slices(texts, vectors, tell)
        return vectors

    async def _encode_slices(
        self, texts: Sequence[str], vectors: NDArray[np.float32], tell: TellProgress
    ) -> None:
        slices, done = self._cut_slices(texts), 0
        tell(done, len(texts))

        async def encode_some() -> None:
            nonlocal done
            for places in slices:
                async with self._places:
                    some = [texts[place] for place in places]
                    vectors[places] = await self._encoder.encode(some, Priority.BULK)
                done += len(places)
                tell(done, len(texts))

        running = [asyncio.create_task(encode_some()) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*running)
        finally:
            await end(running)

    @contextlib.contextmanager
    def _note_call(self) -> Iterator[None]:
        calls = _CALLS.setdefault(self._encoder, Counter())
        calls[self] += 1
        try:
            yield
        finally:
            calls[self] -= 1
            if not calls[self]:
                del calls[self]

    def _cut_slices(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yields places of texts of like length, which waste little of a batch, as many as a turn has."""
        left = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        start = 0
        while start < len(left):
            turn_s = min(self._turn_s, LONGEST_WAIT_S / (AT_ONCE * len(_CALLS[self._encoder])))
            some = [texts[place] for place in left[start : start + MOST_AT_A_TURN]]
            after = start + self._encoder.count_in_turn(some, turn_s, Priority.BULK)
            yield left[start:after]
            start = after
