"""Dense stores of Qdrant Edge to be killed, stopped and compared with what the log says."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from quarry.errors import RetrieverUnavailableError
from quarry.filters import EqualTo, Range
from quarry.retrieval.base import DenseStore, VectorChange
from quarry.retrieval.edge.store_client import EdgeDenseStore
from quarry.retrieval.edge.store_settings import GraphPolicy
from quarry.retrieval.memory_dense import MemoryDenseStore
from quarry.schema import Field, FieldType
from quarry.types import Docno

DIMENSION = 32
FIELDS = (Field("kw", FieldType.KEYWORD), Field("num", FieldType.INTEGER))
GRAPH = GraphPolicy(exact_below=200, indexing_threshold_kb=10, niceness=0)
PATIENCE_S = 30.0
QUERIES = 20
"""One alone misses four of fifty now and then: a graph is built by threads, never twice the same."""

Vectors = NDArray[np.float32]


def units(random: np.random.Generator, count: int) -> Vectors:
    rows = random.normal(size=(count, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def history(seed: int, length: int, documents: int) -> list[VectorChange]:
    """A log: version n at index n - 1; one write in five deletes, some documents have no passages."""
    random = np.random.default_rng(seed)
    log = []
    for version in range(1, length + 1):
        docno = Docno(int(random.integers(1, documents + 1)))
        rows = units(random, int(random.integers(0, 4))) if random.random() > 0.2 else None
        log.append(
            VectorChange(
                docno, version, rows, {} if rows is None else {"kw": f"k{version % 5}", "num": version}
            )
        )
    return log


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for what another process brings about."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110  # no event crosses from that process to this
            await asyncio.sleep(0.01)


async def until_back(store: EdgeDenseStore, restarts: int) -> None:
    async def back() -> bool:
        return store.restarts >= restarts and store.pid is not None

    await until(back)


async def follow(store: DenseStore, log: Sequence[VectorChange], step: int = 20) -> None:
    """Follows the log to its end as the indexer does: after a failure on from the position."""
    reached = None
    while reached is None or reached < len(log):
        try:
            if reached is None:
                reached = (await store.read_position()).sequence
            batch = log[reached : reached + step]
            await store.apply(batch, reached + len(batch))
            reached += len(batch)
            if reached % 60 == 0:
                await store.flush()
        except RetrieverUnavailableError:
            reached = None
            await asyncio.sleep(0.01)
    await store.flush()


async def held(store: DenseStore) -> dict[int, int]:
    return {int(docno): version async for docno, version in store.read_versions()}


async def assert_equal(store: DenseStore, oracle: DenseStore) -> None:
    assert await held(store) == await held(oracle)
    assert await store.count() == await oracle.count()
    random = np.random.default_rng(99)
    for query in units(random, 5):
        for filter in (None, EqualTo("kw", "k1"), Range("num", gt=100)):
            found, meant = (
                await store.find_nearest(query, 500, filter),
                await oracle.find_nearest(query, 500, filter),
            )
            assert [(c.docno, c.passage) for c in found] == [(c.docno, c.passage) for c in meant]
            assert [c.score for c in found] == pytest.approx([c.score for c in meant], abs=1e-5)


async def oracle_of(log: Sequence[VectorChange]) -> MemoryDenseStore:
    oracle = MemoryDenseStore("g1", DIMENSION)
    await oracle.apply(log, len(log))
    return oracle


async def fill(store: EdgeDenseStore, count: int, start: int = 1) -> list[VectorChange]:
    random = np.random.default_rng(start)
    rows = units(random, count)
    changes = [
        VectorChange(Docno(n), n, rows[n - start : n - start + 1], {"kw": f"k{n % 5}", "num": n})
        for n in range(start, start + count)
    ]
    await store.apply(changes, start + count - 1)
    return changes


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
