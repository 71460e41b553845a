"""The store process of Qdrant Edge: killed, restarted, robbed of its files, searched while it builds."""

import asyncio
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from quarry.errors import DataLossError, RetrieverUnavailableError
from quarry.filters import AllOf, EqualTo, NoneOf, Range
from quarry.retrieval.base import DenseStore, VectorChange
from quarry.retrieval.edge.client import EdgeDenseStore
from quarry.retrieval.edge.settings import GraphPolicy, StoreSettings
from quarry.retrieval.heartbeat import Patience
from quarry.retrieval.memory import MemoryDenseStore
from quarry.schema import Field, FieldType
from quarry.types import Docno, Position

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


@pytest.fixture
def settings(tmp_path: Path) -> StoreSettings:
    return StoreSettings(tmp_path / "dense", "g1", DIMENSION, FIELDS, GRAPH)


@pytest.fixture
async def store(settings: StoreSettings) -> AsyncIterator[EdgeDenseStore]:
    opened = await EdgeDenseStore.open(settings)
    yield opened
    await opened.close()


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
                reached = (await store.position()).sequence
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
    return {int(docno): version async for docno, version in store.versions()}


async def assert_equal(store: DenseStore, oracle: DenseStore) -> None:
    assert await held(store) == await held(oracle)
    assert await store.count() == await oracle.count()
    random = np.random.default_rng(99)
    for query in units(random, 5):
        for filter in (None, EqualTo("kw", "k1"), Range("num", gt=100)):
            found, meant = await store.nearest(query, 500, filter), await oracle.nearest(query, 500, filter)
            assert [(c.docno, c.passage) for c in found] == [(c.docno, c.passage) for c in meant]
            assert [c.score for c in found] == pytest.approx([c.score for c in meant], abs=1e-5)


async def oracle_of(log: Sequence[VectorChange]) -> MemoryDenseStore:
    oracle = MemoryDenseStore("g1", DIMENSION)
    await oracle.apply(log, len(log))
    return oracle


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
    assert (await store.position()) == Position("g1", len(log))
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
    calls = [asyncio.create_task(store.nearest(query, 5, None)) for _ in range(10)]
    await asyncio.sleep(0)
    os.kill(store.pid, signal.SIGKILL)
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, RetrieverUnavailableError) for error in failed)
    await until_back(store, 1)
    assert len(await store.nearest(query, 5, None)) == 5


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
    assert (await store.position()).sequence == 0
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
    assert await store.position() == Position("g1", 0)
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
from quarry.retrieval.edge.client import EdgeDenseStore
from quarry.retrieval.edge.settings import GraphPolicy, StoreSettings
from quarry.retrieval.heartbeat import Patience

async def main():
    graph = GraphPolicy(indexing_threshold_kb=10, ef_construct=500)
    store = await EdgeDenseStore.open(StoreSettings(pathlib.Path(sys.argv[1]), "g1", 32, (), graph))
    rows = np.random.default_rng(0).normal(size=(6_000, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    await store.apply([VectorChange(n, 1, rows[n : n + 1], {}) for n in range(6_000)], 7)
    building = asyncio.create_task(store.optimize())
    while not (await store.status()).building:
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


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_keywords_that_look_like_uuids_keep_their_case(store: EdgeDenseStore) -> None:
    name = "550E8400-E29B-41D4-A716-446655440000"
    vectors = units(np.random.default_rng(0), 1)
    await store.apply([VectorChange(Docno(1), 1, vectors, {"kw": name})], 1)
    for filter in (EqualTo("kw", name), Range("kw", gte=name, lte=name)):
        assert [c.docno for c in await store.nearest(vectors[0], 1, filter)] == [1]
    assert await store.nearest(vectors[0], 1, EqualTo("kw", name.lower())) == []


# building the graph


async def fill(store: EdgeDenseStore, count: int, start: int = 1) -> list[VectorChange]:
    random = np.random.default_rng(start)
    rows = units(random, count)
    changes = [
        VectorChange(Docno(n), n, rows[n - start : n - start + 1], {"kw": f"k{n % 5}", "num": n})
        for n in range(start, start + count)
    ]
    await store.apply(changes, start + count - 1)
    return changes


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
        assert len(await store.nearest(units(random, 1)[0], 10, None)) == 10
        longest_ms = max(longest_ms, 1e3 * (time.perf_counter() - began))
        searches_while_building += (await store.status()).building
    await building
    assert searches_while_building > 20
    assert longest_ms < 1_000  # the switch opens the new files; a build would stop all for many seconds
    assert (await store.status()).indexed > 3_000
    assert await held(store) == await held(oracle)
    # More points match than GRAPH answers exactly: the graph may pass one over, and makes none up.
    right = 0
    for query in units(random, QUERIES):
        found = {c.docno: c.score for c in await store.nearest(query, 50, EqualTo("kw", "new"))}
        every = {c.docno: c.score for c in await oracle.nearest(query, 6_000, EqualTo("kw", "new"))}
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
    assert (await store.status()).indexed == 6_000


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
    assert not (await store.status()).building
    await fill(store, 1, start=2_000)
    await store.flush()

    async def built() -> bool:
        status = await store.status()
        return status.indexed == 2_000 and status.pending == 0 and not status.building

    await until(built)
    assert await store.position() == Position("g1", 2_000)
    await store.close()


async def test_a_built_store_opens_with_its_graph(settings: StoreSettings) -> None:
    store = await EdgeDenseStore.open(settings)
    await fill(store, 2_000)
    await store.optimize()
    await store.close()
    store = await EdgeDenseStore.open(settings)
    status = await store.status()
    assert (status.points, status.indexed, status.pending) == (2_000, 2_000, 0)
    assert await store.position() == Position("g1", 2_000)
    await store.close()


# a process that hangs

QUICK = Patience(hung_after_s=0.5, restart_after_s=1.5, busy_restart_after_s=60.0)


@pytest.fixture
async def watched(settings: StoreSettings) -> AsyncIterator[EdgeDenseStore]:
    opened = await EdgeDenseStore.open(replace(settings, patience=QUICK))
    await fill(opened, 100)
    await opened.flush()
    yield opened
    await opened.close()


async def test_a_stopped_process_is_named_within_two_seconds_and_fails_its_calls_at_once(
    settings: StoreSettings,
) -> None:
    store = await EdgeDenseStore.open(settings)
    query = units(np.random.default_rng(1), 1)[0]
    assert store.pid is not None
    os.kill(store.pid, signal.SIGSTOP)
    stopped_s = time.monotonic()
    with pytest.raises(RetrieverUnavailableError, match="has not answered"):
        await store.nearest(query, 5, None)  # it was on its way already
    assert time.monotonic() - stopped_s < 2
    assert "has not answered" in (store.problem or "")
    for call in (store.nearest(query, 5, None), store.position(), store.apply([], 7), store.flush()):
        began_s = time.monotonic()
        with pytest.raises(RetrieverUnavailableError, match="has not answered"):
            await call
        assert time.monotonic() - began_s < 0.2
    os.kill(store.pid, signal.SIGCONT)

    async def answers() -> bool:
        return store.problem is None

    await until(answers)
    assert (await store.position()).sequence == 0
    assert store.restarts == 0
    await store.close()


async def test_a_stopped_process_is_replaced_and_nothing_that_was_flushed_is_lost(
    watched: EdgeDenseStore,
) -> None:
    before = watched.pid
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    await until_back(watched, 1)
    assert watched.pid != before
    assert watched.problem is None
    assert await watched.count() == 100
    assert (await watched.position()).sequence == 100


async def test_a_process_that_is_at_work_is_waited_for(settings: StoreSettings) -> None:
    """The engine holds the interpreter: while it works, no sign of life comes."""
    hasty = Patience(hung_after_s=0.25, restart_after_s=0.25, busy_restart_after_s=60.0)
    store = await EdgeDenseStore.open(replace(settings, patience=hasty))
    await fill(store, 30_000)
    before, query = store.pid, units(np.random.default_rng(2), 1)[0]
    slow = AllOf(tuple(NoneOf((EqualTo("kw", f"x{n}"),)) for n in range(200)))
    longest_s = 0.0
    while longest_s < 1.0:  # a quarter of that is taken for silence
        began_s = time.monotonic()
        assert len(await store.nearest(query, 25_000, slow)) == 25_000
        longest_s = max(longest_s, time.monotonic() - began_s)
        slow = AllOf((slow, slow))
    assert (store.pid, store.restarts) == (before, 0)
    await store.close()


async def test_a_process_that_is_at_work_for_too_long_is_replaced(settings: StoreSettings) -> None:
    hasty = Patience(hung_after_s=60.0, restart_after_s=60.0, busy_restart_after_s=0.25)
    store = await EdgeDenseStore.open(replace(settings, patience=hasty))
    await fill(store, 30_000)
    slow = AllOf(tuple(NoneOf((EqualTo("kw", f"x{n}"),)) for n in range(200)))
    with pytest.raises(RetrieverUnavailableError, match="ended"):
        while True:
            await store.nearest(units(np.random.default_rng(2), 1)[0], 25_000, slow)
            slow = AllOf((slow, slow))
    await until_back(store, 1)
    await store.close()


async def test_a_stopped_process_does_not_hold_the_end_of_its_store(watched: EdgeDenseStore) -> None:
    assert watched.pid is not None
    os.kill(watched.pid, signal.SIGSTOP)
    began_s = time.monotonic()
    await watched.close()
    assert time.monotonic() - began_s < 7


async def test_the_log_says_why_a_process_is_killed_at_the_end_of_its_store(
    settings: StoreSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is at work, such as a long flush, does not hang."""
    monkeypatch.setattr("quarry.retrieval.edge.connection.CLOSE_TIMEOUT_S", 0.2)
    store = await EdgeDenseStore.open(settings)
    pid = store.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await store.close()
    assert f"process {pid} is killed: it did not end within 0.2 s and hangs" in caplog.text


async def test_the_store_process_logs_as_the_server_does(
    settings: StoreSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """No line of the log begins with what was sent to it, and no control character reaches a terminal."""
    store = await EdgeDenseStore.open(settings)
    with pytest.raises(RetrieverUnavailableError):
        await store._call("no method\nforged \x1b[2J")
    await store.close()
    logged = capfd.readouterr().err
    assert "\\x1b[2J" in logged
    assert "\x1b" not in logged
    assert all(re.match(r"\d{4}-\d\d-\d\d |    ", line) for line in logged.splitlines())
