"""Models are loaded once, kept while they are used, and unloaded when too many are idle."""

import asyncio
import threading
from collections import Counter

import pytest

from quarry.errors import ModelError
from quarry.models.pool import ModelPool


class Loader:
    """Loads names as themselves.

    Attributes:
        loads: how often each was loaded.
        unloaded: in order.
        go: a load waits for it.
    """

    def __init__(self) -> None:
        self.loads: Counter[str] = Counter()
        self.unloaded: list[str] = []
        self.kept: set[str] = set()
        self.bad: set[str] = set()
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()

    def load(self, name: str) -> str:
        self.loads[name] += 1
        self.entered.set()
        self.go.wait(30)
        if name in self.bad:
            raise ModelError(f"{name} is broken")
        return name

    def pool(self, most_idle: int = 1) -> ModelPool[str]:
        return ModelPool(self.load, self.unloaded.append, lambda: self.kept, most_idle)


async def use(pool: ModelPool[str], *names: str) -> None:
    for name in names:
        async with pool.hold(name) as model:
            assert model == name


async def test_a_model_is_loaded_once_for_all_who_ask_at_once() -> None:
    loader = Loader()
    loader.go.clear()
    pool = loader.pool()
    users = [asyncio.create_task(use(pool, "a")) for _ in range(8)]
    await asyncio.to_thread(loader.entered.wait)
    loader.go.set()
    await asyncio.gather(*users)
    assert loader.loads == {"a": 1}


async def test_the_idle_ones_used_longest_ago_are_unloaded() -> None:
    loader = Loader()
    loader.kept = {"b"}
    pool = loader.pool(most_idle=1)
    await use(pool, "a", "b", "c", "d", "a")
    async with pool.hold("c"):
        await pool.trim()
        assert sorted(loader.unloaded) == ["d"]
        assert pool.names == ["b", "a", "c"]
    await pool.trim()
    assert loader.unloaded == ["d", "a"]
    assert pool.get("b") == "b"
    with pytest.raises(ModelError, match="not loaded"):
        pool.get("a")
    await pool.close()
    assert sorted(loader.unloaded) == ["a", "b", "c", "d"]


async def test_what_is_given_to_a_collection_while_models_are_trimmed_stays() -> None:
    loader = Loader()
    reading, read = threading.Event(), threading.Event()

    def kept() -> set[str]:
        reading.set()
        read.wait(30)
        return set()  # as it was before the promotion

    pool = ModelPool(loader.load, loader.unloaded.append, kept, most_idle=0)
    await use(pool, "a", "b")
    trimming = asyncio.create_task(pool.trim())
    await asyncio.to_thread(reading.wait)
    await use(pool, "a")  # and promoted
    read.set()
    await trimming
    assert loader.unloaded == ["b"]


async def test_memory_stays_flat_over_many_models() -> None:
    loader = Loader()
    pool = loader.pool(most_idle=2)
    for number in range(50):
        await use(pool, f"m{number}")
        loader.kept = {f"m{number}", f"m{number - 1}"}
        await pool.trim()
        assert len(pool.names) <= 4


async def test_a_forgotten_model_goes_with_its_last_user_and_is_loaded_anew() -> None:
    loader = Loader()
    pool = loader.pool()
    async with pool.hold("a"):
        with pool.hold_loaded("a"):
            pool.forget("a")
            await use(pool, "a")
        await pool.trim()
        assert not loader.unloaded
    await pool.trim()
    assert loader.unloaded == ["a"]
    assert loader.loads["a"] == 2
    assert pool.peek("a") == "a"


async def test_a_failed_load_is_told_to_all_and_tried_again() -> None:
    loader = Loader()
    loader.bad = {"a"}
    pool = loader.pool()
    results = await asyncio.gather(*(use(pool, "a") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, ModelError) for result in results)
    assert loader.loads["a"] == 1
    loader.bad = set()
    await use(pool, "a")
    assert loader.loads["a"] == 2
    await pool.close()
    assert loader.unloaded == ["a"]


async def test_who_gives_up_waiting_takes_nothing_from_those_who_wait() -> None:
    loader = Loader()
    loader.go.clear()
    pool = loader.pool()
    impatient, patient = (asyncio.create_task(use(pool, "a")) for _ in range(2))
    await asyncio.to_thread(loader.entered.wait)
    impatient.cancel()
    await asyncio.wait([impatient])
    loader.go.set()
    await patient
    assert impatient.cancelled()
    assert loader.loads["a"] == 1


async def test_a_load_that_nobody_waits_for_any_more_is_unloaded_at_the_end() -> None:
    loader = Loader()
    loader.go.clear()
    pool = loader.pool()
    impatient = asyncio.create_task(use(pool, "a"))
    await asyncio.to_thread(loader.entered.wait)
    impatient.cancel()
    await asyncio.wait([impatient])
    loader.go.set()
    await pool.close()
    assert loader.unloaded == ["a"]
