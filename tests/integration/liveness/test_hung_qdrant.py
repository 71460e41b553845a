"""The dense store on a Qdrant server that stops answering: its calls fail at once until it is back."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from quarry.errors import RetrieverUnavailableError
from quarry.retrieval.base import VectorChange
from quarry.retrieval.heartbeat import Patience
from quarry.retrieval.qdrant import connection
from quarry.retrieval.qdrant.store import QdrantDenseStore
from quarry.types import Docno

pytestmark = pytest.mark.filterwarnings(  # what the client's stand-in for a server says of itself
    "ignore:Local mode performs exact", "ignore:Payload indexes have no effect"
)

VECTOR = np.array([1.0, 0.0], np.float32)


class Stoppable(AsyncQdrantClient):
    """A client in memory whose server answers while ``going`` is set, and each call after some seconds."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.going = asyncio.Event()
        self.going.set()
        self.beat_s = self.call_s = 0.0

    async def collection_exists(self, *arguments: Any, **named: Any) -> bool:
        await self._answer(self.beat_s)
        return await super().collection_exists(*arguments, **named)

    async def query_points(self, *arguments: Any, **named: Any) -> Any:
        await self._answer(self.call_s)
        return await super().query_points(*arguments, **named)

    async def upsert(self, *arguments: Any, **named: Any) -> Any:
        await self._answer(self.call_s)
        return await super().upsert(*arguments, **named)

    async def _answer(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.going.wait()


async def test_a_server_that_hangs_is_named_and_left_out_of_searches_until_it_answers() -> None:
    client = Stoppable()
    store = await QdrantDenseStore.open(client, "c", "g1", 2, ())
    await store.apply([VectorChange(Docno(1), 1, VECTOR[None], {})], 1)
    client.going.clear()
    began_s = time.monotonic()
    writing = asyncio.create_task(store.apply([VectorChange(Docno(2), 2, VECTOR[None], {})], 2))
    with pytest.raises(RetrieverUnavailableError, match="has not answered"):
        await store.find_nearest(VECTOR, 1, None)  # it was on its way already
    assert time.monotonic() - began_s < 5
    assert "has not answered" in (store.problem or "")
    began_s = time.monotonic()
    for call in (store.find_nearest(VECTOR, 1, None), store.compute_similarities(VECTOR, [Docno(1)])):
        with pytest.raises(RetrieverUnavailableError):
            await call
    assert time.monotonic() - began_s < 0.2
    client.going.set()
    await writing  # a slow server can have done it, so nobody gives it up before its time
    async with asyncio.timeout(10):
        while store.problem is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert [c.docno for c in await store.find_nearest(VECTOR, 5, None)] == [1, 2]
    await store.close()


@pytest.mark.parametrize(("beat_s", "least_patience_s"), [(1.3, 3.0), (0.6, 0.0)])
async def test_a_server_that_is_slow_does_all_its_work(
    beat_s: float, least_patience_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LEAST_PATIENCE_S", least_patience_s)
    client = Stoppable()
    client.beat_s = beat_s
    hasty = Patience(hung_after_s=0.3)
    store = await QdrantDenseStore.open(client, "c", "g1", 2, (), patience=hasty)
    client.call_s = 1.5 * beat_s
    await store.apply([VectorChange(Docno(1), 1, VECTOR[None], {})], 1)
    assert [c.docno for c in await store.find_nearest(VECTOR, 5, None)] == [1]
    assert store.problem is None
    client.call_s = 0.0
    await store.close()


async def test_any_answer_is_a_sign_of_life() -> None:
    client = Stoppable()
    store = await QdrantDenseStore.open(client, "c", "g1", 2, ())
    client.beat_s, client.call_s = 60.0, 0.5
    began_s = time.monotonic()
    while time.monotonic() - began_s < 4:
        assert await store.find_nearest(VECTOR, 5, None) == []
    client.call_s = 0.0
    await store.close()


async def test_a_server_that_hangs_does_not_hold_the_end(caplog: pytest.LogCaptureFixture) -> None:
    client = Stoppable()
    store = await QdrantDenseStore.open(client, "c", "g1", 2, ())
    client.going.clear()
    began_s = time.monotonic()
    await store.close()
    assert time.monotonic() - began_s < 5
    assert "position of c is not written" in caplog.text


async def test_a_caller_who_goes_ends_its_call_and_no_other() -> None:
    client = Stoppable()
    store = await QdrantDenseStore.open(client, "c", "g1", 2, ())
    client.going.clear()
    going, staying = (asyncio.create_task(store.find_nearest(VECTOR, 1, None)) for _ in range(2))
    await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    client.going.set()
    assert await staying == []
    await store.close()
