import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.base import ModelInfo
from quarry.models.runtime.batcher import EncoderBatcher
from quarry.models.runtime.encoding_turns import EncodingTurns

SECONDS_A_TEXT = 0.004
PASSAGES_OF_400_KB = 1_200
PASSAGE = "word " * 200


class SlowEncoder:
    """Takes the same time for each text, and notes which it was given; a text's vector is its length."""

    info = ModelInfo("slow", "slow", max_tokens=256, dimension=1)

    def __init__(self) -> None:
        self.given: list[str] = []
        self.begun = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def find_token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [[(0, len(text))] for text in texts]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.given += texts
        self._loop.call_soon_threadsafe(self.begun.set)
        time.sleep(SECONDS_A_TEXT * len(texts))  # it is at work
        if "broken" in texts:
            raise ModelError("it broke", model="slow")
        return np.array([[len(text)] for text in texts], np.float32)


@pytest.fixture
async def encoder() -> SlowEncoder:
    return SlowEncoder()


@pytest.fixture
async def batcher(encoder: SlowEncoder) -> AsyncIterator[EncoderBatcher]:
    with closing(EncoderBatcher(encoder)) as made:
        yield made


async def _encode_small_beside_large(
    encoder: SlowEncoder, of_large: EncodingTurns, of_small: EncodingTurns
) -> int:
    """Returns how many texts were encoded from the coming of the small document to its end."""
    large = asyncio.create_task(of_large.encode([PASSAGE] * PASSAGES_OF_400_KB))
    while len(encoder.given) < PASSAGES_OF_400_KB // 10:  # by then it knows its speed
        encoder.begun.clear()
        await encoder.begun.wait()
    before = len(encoder.given)
    await of_small.encode(["five words make this document"])
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    return len(encoder.given) - before


async def test_a_small_document_waits_two_seconds_at_most_for_another_collections_large_one(
    encoder: SlowEncoder, batcher: EncoderBatcher
) -> None:
    texts = await _encode_small_beside_large(encoder, EncodingTurns(batcher), EncodingTurns(batcher))
    assert texts * SECONDS_A_TEXT < 2.0


async def test_a_small_document_waits_two_seconds_at_most_for_its_own_collections_large_one(
    encoder: SlowEncoder, batcher: EncoderBatcher
) -> None:
    turns = EncodingTurns(batcher)
    texts = await _encode_small_beside_large(encoder, turns, turns)
    assert texts * SECONDS_A_TEXT < 2.0


async def test_a_small_document_waits_two_seconds_at_most_for_six_other_collections(
    encoder: SlowEncoder, batcher: EncoderBatcher
) -> None:
    others = [EncodingTurns(batcher) for _ in range(6)]
    large = [asyncio.create_task(turns.encode([PASSAGE] * PASSAGES_OF_400_KB)) for turns in others]
    while len(encoder.given) < PASSAGES_OF_400_KB // 3:  # by then it knows its speed
        encoder.begun.clear()
        await encoder.begun.wait()
    before = len(encoder.given)
    await EncodingTurns(batcher).encode(["five words make this document"])
    texts = len(encoder.given) - before
    for task in large:
        task.cancel()
    await asyncio.gather(*large, return_exceptions=True)
    assert texts * SECONDS_A_TEXT < 2.0


async def test_each_text_gets_its_own_vector(batcher: EncoderBatcher) -> None:
    texts = ["x" * (n * 37 % 101) for n in range(100)]
    vectors = await EncodingTurns(batcher, turn_s=0.001).encode(texts)
    assert vectors[:, 0].tolist() == list(map(len, texts))
    assert vectors.dtype == np.float32


async def test_it_tells_how_many_texts_are_encoded(batcher: EncoderBatcher) -> None:
    texts, told = [PASSAGE] * 100, list[tuple[int, int]]()
    await EncodingTurns(batcher, turn_s=0.001).encode(texts, lambda *counts: told.append(counts))
    assert len(told) > 2
    assert told == sorted(told)
    assert (told[0], told[-1]) == ((0, 100), (100, 100))


async def test_no_text_has_no_vector(batcher: EncoderBatcher) -> None:
    assert (await EncodingTurns(batcher).encode([])).shape == (0, 1)


async def test_what_the_encoder_raises_is_raised_and_the_rest_is_left(
    encoder: SlowEncoder, batcher: EncoderBatcher
) -> None:
    texts = ["broken", *[PASSAGE] * PASSAGES_OF_400_KB]
    with pytest.raises(ModelError, match="it broke"):
        await EncodingTurns(batcher).encode(texts)
    assert len(encoder.given) < PASSAGES_OF_400_KB // 2
