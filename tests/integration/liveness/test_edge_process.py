"""The store process of Qdrant Edge: killed, restarted, robbed of its files, searched while it builds."""

import asyncio
import os
import shutil
import signal
import sys
from dataclasses import replace
from random import Random

import numpy as np
import psutil
import pytest
from tests.integration.liveness.edge_stores import (
    alive,
    assert_equal,
    follow,
    history,
    oracle_of,
    units,
    until,
    until_back,
)

from quarry.errors import DataLossError, RetrieverUnavailableError
from quarry.filters import EqualTo, Range
from quarry.retrieval.base import VectorChange
from quarry.retrieval.edge.store_client import EdgeDenseStore
from quarry.retrieval.edge.store_settings import StoreSettings
from quarry.types import Docno, Position


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_store_killed_at_random_holds_what_the_log_says_after_replay(
    store: EdgeDenseStore, seed: int
) -> None:
    log, random = history(seed, 1_500, 120), Random(seed)
    following = asyncio.create_task(follow(store, log))
    for restarts in range(1, 5):
        await asyncio.sleep(random.uniform(0.0, 0.1))
        if store.pid is not None:
            os.kill(store.pid, signal.SIGKILL)
            await until_back(store, restarts)
    await following
    assert (await store.read_position()) == Position("g1", len(log))
    await assert_equal(store, await oracle_of(log))


async def test_a_store_killed_while_it_builds_and_writes_holds_what_the_log_says(
    store: EdgeDenseStore,
) -> None:
    log = history(3, 2_000, 300)
    await follow(store, log[:1_000])
    for restarts in range(1, 4):
        building = asyncio.create_task(store.optimize())
        following = asyncio.create_task(follow(store, log))
        await asyncio.sleep(0.1 * restarts)
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        await asyncio.gather(building, return_exceptions=True)
        await until_back(store, restarts)
        await following
    await store.optimize()
    await assert_equal(store, await oracle_of(log))


async def test_calls_in_flight_fail_when_the_process_dies_and_later_ones_succeed(
    store: EdgeDenseStore,
) -> None:
    random = np.random.default_rng(0)
    await store.apply([VectorChange(Docno(n), n, units(random, 1), {}) for n in range(1, 500)], 499)
    await store.flush()
    query = units(random, 1)[0]
    assert store.pid is not None
    os.kill(store.pid, signal.SIGSTOP)
    calls = [asyncio.create_task(store.find_nearest(query, 5, None)) for _ in range(10)]
    await asyncio.sleep(0)
    os.kill(store.pid, signal.SIGKILL)
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, RetrieverUnavailableError) for error in failed)
    await until_back(store, 1)
    assert len(await store.find_nearest(query, 5, None)) == 5


async def test_signals_to_the_whole_group_leave_the_store_to_its_server(store: EdgeDenseStore) -> None:
    random = np.random.default_rng(0)
    await store.apply([VectorChange(Docno(1), 1, units(random, 1), {})], 1)
    pid = store.pid
    assert pid is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pid, number)
        assert await store.count() == 1
    assert (store.pid, store.restarts) == (pid, 0)


async def test_writes_after_a_restart_are_refused_until_the_position_was_read(store: EdgeDenseStore) -> None:
    change = VectorChange(Docno(1), 1, units(np.random.default_rng(0), 1), {})
    await store.apply([change], 1)
    assert store.pid is not None
    os.kill(store.pid, signal.SIGKILL)
    await until_back(store, 1)
    with pytest.raises(RetrieverUnavailableError, match="position"):
        await store.apply([change], 2)
    assert (await store.flush()).sequence == 0
    assert (await store.read_position()).sequence == 0
    await store.apply([change], 1)
    assert (await store.flush()).sequence == 1


async def test_a_removed_shard_starts_again_empty_at_sequence_zero(settings: StoreSettings) -> None:
    log = history(4, 200, 50)
    store = await EdgeDenseStore.open(settings)
    await follow(store, log)
    await store.close()
    for shard in settings.folder.glob("shard-*"):
        shutil.rmtree(shard)
    store = await EdgeDenseStore.open(settings)
    assert await store.read_position() == Position("g1", 0)
    assert await store.count() == 0
    await follow(store, log)
    await assert_equal(store, await oracle_of(log))
    await store.close()


async def test_a_folder_of_another_generation_is_refused(settings: StoreSettings) -> None:
    store = await EdgeDenseStore.open(settings)
    await store.apply([], 3)
    await store.close()
    with pytest.raises(DataLossError, match="g1"):
        await EdgeDenseStore.open(replace(settings, generation="g2"))


@pytest.mark.parametrize("content", ["{}", '{"generation": "g1", "sequence": 7, "crc": 1}'])
async def test_a_damaged_position_is_refused(settings: StoreSettings, content: str) -> None:
    settings.folder.mkdir()
    (settings.folder / "position.json").write_text(content)
    with pytest.raises(DataLossError, match="cannot be read"):
        await EdgeDenseStore.open(settings)


async def test_two_stores_cannot_have_one_folder(settings: StoreSettings, store: EdgeDenseStore) -> None:
    with pytest.raises(RetrieverUnavailableError, match="cannot open"):
        await EdgeDenseStore.open(replace(settings, lock_wait_s=0.3))
    assert await store.count() == 0


async def test_a_store_waits_for_its_predecessor_to_let_go(
    settings: StoreSettings, store: EdgeDenseStore
) -> None:
    second = asyncio.create_task(EdgeDenseStore.open(settings))
    await asyncio.sleep(0.5)
    await store.close()
    opened = await second
    assert await opened.count() == 0
    await opened.close()


SERVER = """
import asyncio, os, pathlib, sys
import numpy as np
from quarry.retrieval.base import VectorChange
from quarry.retrieval.edge.store_client import EdgeDenseStore
from quarry.retrieval.edge.store_settings import GraphPolicy, StoreSettings
from quarry.retrieval.heartbeat import Patience

async def main():
    graph = GraphPolicy(indexing_threshold_kb=10, ef_construct=500)
    store = await EdgeDenseStore.open(StoreSettings(pathlib.Path(sys.argv[1]), "g1", 32, (), graph))
    rows = np.random.default_rng(0).normal(size=(6_000, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    await store.apply([VectorChange(n, 1, rows[n : n + 1], {}) for n in range(6_000)], 7)
    building = asyncio.create_task(store.optimize())
    while not (await store.read_status()).building:
        pass
    print(store.pid, flush=True)
    await building
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_killed_server_takes_its_processes_along_and_the_store_flushes_first(
    settings: StoreSettings,
) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(settings.folder), stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    store = psutil.Process(int(await server.stdout.readline()))
    processes = [store, *store.children()]
    server.kill()
    await server.wait()

    async def gone() -> bool:
        return not any(alive(process) for process in processes)

    await until(gone)
    assert len(processes) == 2
    position = await asyncio.to_thread((settings.folder / "position.json").read_text)
    assert position.startswith('{"generation": "g1", "sequence": 7, ')


async def test_keywords_that_look_like_uuids_keep_their_case(store: EdgeDenseStore) -> None:
    name = "550E8400-E29B-41D4-A716-446655440000"
    vectors = units(np.random.default_rng(0), 1)
    await store.apply([VectorChange(Docno(1), 1, vectors, {"kw": name})], 1)
    for filter in (EqualTo("kw", name), Range("kw", gte=name, lte=name)):
        assert [c.docno for c in await store.find_nearest(vectors[0], 1, filter)] == [1]
    assert await store.find_nearest(vectors[0], 1, EqualTo("kw", name.lower())) == []
