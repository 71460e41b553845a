"""An encoder that a server has loaded."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from quarry.deadline import Deadline
from quarry.models.base import Encoder
from quarry.models.runtime.batcher import NO_DEADLINE, EncoderBatcher

_SPECIAL_TOKENS = 2


class ServedEncoder:
    """An encoder and its batcher."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.batcher = EncoderBatcher(encoder)

    async def encode_query(
        self, text: str, limit: Deadline = NO_DEADLINE
    ) -> tuple[NDArray[np.float32], bool]:
        """Encodes ``text`` to its unit vector, and says whether it was cut to what the model reads.

        Raises DeadlineExceeded, at once where others' queries take until ``limit``.
        """
        vectors = await self.batcher.encode([text], deadline=limit)
        return vectors[0], await self._is_cut(text)

    async def _is_cut(self, text: str) -> bool:
        room = self.encoder.info.max_tokens - _SPECIAL_TOKENS
        if len(text) <= room:  # a token has at least one character
            return False
        (spans,) = await asyncio.to_thread(self.encoder.find_token_spans, [text])
        return len(spans) > room
