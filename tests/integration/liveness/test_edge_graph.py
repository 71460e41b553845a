"""The graph of a dense store: searched, killed and kept while it is built by a process of its own."""

import asyncio
import os
import signal
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
from tests.integration.liveness.edge_stores import (
    DIMENSION,
    GRAPH,
    QUERIES,
    alive,
    fill,
    held,
    units,
    until,
    until_back,
)

from quarry.errors import RetrieverUnavailableError
from quarry.filters import EqualTo
from quarry.retrieval.base import VectorChange
from quarry.retrieval.edge.store_client import EdgeDenseStore
from quarry.retrieval.edge.store_settings import StoreSettings
from quarry.retrieval.memory_dense import MemoryDenseStore
from quarry.types import Docno, Position


async def test_searches_and_writes_go_on_while_the_graph_is_built(store: EdgeDenseStore) -> None:
    oracle = MemoryDenseStore("g1", DIMENSION)
    await oracle.apply(await fill(store, 5_000), 5_000)
    building = asyncio.create_task(store.optimize())
    random, version = np.random.default_rng(5), 5_000
    longest_ms, searches_while_building = 0.0, 0
    while not building.done():
        version += 10
        changes = [
            VectorChange(
                Docno(int(docno)), version, units(random, int(rows)) if rows else None, {"kw": "new"}
            )
            for docno, rows in zip(random.integers(1, 6_000, 10), random.integers(0, 4, 10), strict=True)
        ]
        await asyncio.gather(store.apply(changes, version), oracle.apply(changes, version))
        began = time.perf_counter()
        assert len(await store.find_nearest(units(random, 1)[0], 10, None)) == 10
        longest_ms = max(longest_ms, 1e3 * (time.perf_counter() - began))
        searches_while_building += (await store.read_status()).building
    await building
    assert searches_while_building > 20
    assert longest_ms < 1_000  # the switch opens the new files; a build would stop all for many seconds
    assert (await store.read_status()).indexed > 3_000
    assert await held(store) == await held(oracle)
    # More points match than GRAPH answers exactly: the graph may pass one over, and makes none up.
    right = 0
    for query in units(random, QUERIES):
        found = {c.docno: c.score for c in await store.find_nearest(query, 50, EqualTo("kw", "new"))}
        every = {c.docno: c.score for c in await oracle.find_nearest(query, 6_000, EqualTo("kw", "new"))}
        assert found == pytest.approx({docno: every[docno] for docno in found}, abs=1e-5)
        assert len(found) == 50
        right += len(found.keys() & set(list(every)[:50]))
    assert right >= 0.94 * 50 * QUERIES


async def test_a_killed_build_leaves_the_store_as_it_was(
    store: EdgeDenseStore, settings: StoreSettings
) -> None:
    await fill(store, 6_000)
    building = asyncio.create_task(store.optimize())
    builders: list[psutil.Process] = []

    async def builder_runs() -> bool:
        builders[:] = psutil.Process(store.pid).children()
        return bool(builders)

    await until(builder_runs)
    builders[0].kill()
    with pytest.raises(RetrieverUnavailableError, match="build"):
        await building
    assert await store.count() == 6_000
    assert len(list(settings.folder.glob("shard-*"))) == 1
    await store.optimize()
    assert (await store.read_status()).indexed == 6_000


async def test_a_build_dies_with_the_store_process_and_leaves_nothing(settings: StoreSettings) -> None:
    long_build = replace(GRAPH, ef_construct=5_000, threads=1)
    store = await EdgeDenseStore.open(replace(settings, graph=long_build))
    await fill(store, 6_000)
    await store.flush()
    building = asyncio.create_task(store.optimize())
    builders: list[psutil.Process] = []

    async def copied() -> bool:
        builders[:] = psutil.Process(store.pid).children()
        return len(list(settings.folder.glob("shard-*"))) == 2

    await until(copied)
    assert store.pid is not None
    os.kill(store.pid, signal.SIGKILL)
    with pytest.raises(RetrieverUnavailableError):
        await building
    await until_back(store, 1)

    async def gone() -> bool:
        return not any(alive(builder) for builder in builders)

    async with asyncio.timeout(2):  # much sooner than it would be done
        await until(gone)
    assert await store.count() == 6_000
    await store.close()
    reopened = await EdgeDenseStore.open(settings)
    assert len(list(settings.folder.glob("shard-*"))) == 1
    await reopened.close()


async def test_the_graph_is_built_by_itself_after_enough_writes(settings: StoreSettings) -> None:
    store = await EdgeDenseStore.open(replace(settings, graph=replace(GRAPH, min_pending=2_000)))
    await fill(store, 1_999)
    await store.flush()
    assert not (await store.read_status()).building
    await fill(store, 1, start=2_000)
    await store.flush()

    async def built() -> bool:
        status = await store.read_status()
        return status.indexed == 2_000 and status.pending == 0 and not status.building

    await until(built)
    assert await store.read_position() == Position("g1", 2_000)
    await store.close()


async def test_a_built_store_opens_with_its_graph(settings: StoreSettings) -> None:
    store = await EdgeDenseStore.open(settings)
    await fill(store, 2_000)
    await store.optimize()
    await store.close()
    store = await EdgeDenseStore.open(settings)
    status = await store.read_status()
    assert (status.points, status.indexed, status.pending) == (2_000, 2_000, 0)
    assert await store.read_position() == Position("g1", 2_000)
    await store.close()
