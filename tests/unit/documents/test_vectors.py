"""Vectors of documents: the cut of a large one ends when nobody waits for it."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.documents.catalog import PassagePolicy
from quarry.documents.passages import BLOCK_CHARACTERS, PassageCutter
from quarry.documents.vector_cache import VectorCache
from quarry.documents.vectors import DocumentVectors
from quarry.models.base import ModelInfo
from quarry.models.runtime.batcher import EncoderBatcher
from quarry.schema import DEFAULT_SCHEMA

BLOCKS = 50
PATIENCE_S = 20.0


class HeldEncoder:
    """Finds tokens of one block of text, and of no other one until it is told to go on."""

    info = ModelInfo("held", "held", max_tokens=256, dimension=1)

    def __init__(self) -> None:
        self.blocks = 0
        self.begun, self.go_on = threading.Event(), threading.Event()

    def find_token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        self.blocks += 1
        self.begun.set()
        self.go_on.wait(PATIENCE_S)
        return [[(0, len(text))] for text in texts]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 1), np.float32)


async def test_a_cut_that_nobody_waits_for_ends_at_the_next_block(tmp_path: Path) -> None:
    encoder, loop = HeldEncoder(), asyncio.get_running_loop()
    cutter = PassageCutter(encoder, PassagePolicy())
    with closing(VectorCache(tmp_path / "vectors")) as cache, closing(EncoderBatcher(encoder)) as batcher:
        vectors = DocumentVectors(DEFAULT_SCHEMA, cutter, batcher, cache)
        large = {"text": "word " * (BLOCKS * BLOCK_CHARACTERS // 5)}
        reading = asyncio.create_task(vectors.read_vectors([large]))
        assert await asyncio.to_thread(encoder.begun.wait, PATIENCE_S)
        reading.cancel()
        await asyncio.wait([reading], timeout=PATIENCE_S)
        assert reading.cancelled()
        encoder.go_on.set()
        await loop.shutdown_default_executor()  # as the end of a server does
        assert encoder.blocks == 1
        assert cache.count() == 0
