"""A store process that hangs or works for long: when it is left out, waited for, and started again."""

import os
import re
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
from tests.integration.liveness.edge_stores import (
    fill,
    units,
    until,
    until_back,
)

from quarry.errors import RetrieverUnavailableError
from quarry.filters import AllOf, EqualTo, NoneOf
from quarry.retrieval.edge.store_client import EdgeDenseStore
from quarry.retrieval.edge.store_settings import StoreSettings
from quarry.retrieval.heartbeat import Patience

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
        await store.find_nearest(query, 5, None)  # it was on its way already
    assert time.monotonic() - stopped_s < 2
    assert "has not answered" in (store.problem or "")
    for call in (
        store.find_nearest(query, 5, None),
        store.read_position(),
        store.apply([], 7),
        store.flush(),
    ):
        began_s = time.monotonic()
        with pytest.raises(RetrieverUnavailableError, match="has not answered"):
            await call
        assert time.monotonic() - began_s < 0.2
    os.kill(store.pid, signal.SIGCONT)

    async def answers() -> bool:
        return store.problem is None

    await until(answers)
    assert (await store.read_position()).sequence == 0
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
    assert (await watched.read_position()).sequence == 100


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
        assert len(await store.find_nearest(query, 25_000, slow)) == 25_000
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
            await store.find_nearest(units(np.random.default_rng(2), 1)[0], 25_000, slow)
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
