"""Checks of files read whole indexes: they have a thread of their own, and end in time."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quarry.collections.consistency import ArmDifferences
from quarry.collections.generation import Generation
from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded
from quarry.retrieval.bm25_arm import Bm25Arm
from quarry.retrieval.inspection import VectorSample
from quarry.schema import DEFAULT_SCHEMA

BM25 = ArmDifferences("bm25", 0)


class LargeIndex:
    """Its files take as long to read as ``release`` says."""

    def __init__(self) -> None:
        self.begun, self.release = threading.Event(), threading.Event()
        self.reading = self.most = 0

    def find_damage(self, deadline: Deadline) -> str:
        self.reading += 1
        self.most = max(self.most, self.reading)
        self.begun.set()
        assert self.release.wait(20)
        self.reading -= 1
        return "looked at"


def generation(index: LargeIndex) -> Generation:
    settings: Any = SimpleNamespace(schema=DEFAULT_SCHEMA)
    collection: Any = SimpleNamespace(generation="g1", settings=settings, last_sequence=0)
    nothing: Any = None
    made = Generation(collection, Path("never opened"), nothing, nothing, nothing, nothing)
    made._arms["bm25"] = Bm25Arm(index, nothing)  # type: ignore[arg-type]
    made.followers["bm25"] = nothing
    return made


async def test_checks_of_files_hold_up_no_other_work_and_end_at_their_deadline() -> None:
    index = LargeIndex()
    checked = generation(index)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))

    def check(seconds: float | None) -> "asyncio.Task[ArmDifferences]":
        return asyncio.create_task(checked.look_inside(BM25, VectorSample(), Deadline.set_after(seconds)))

    patient = [check(None) for _ in range(4)]
    try:
        async with asyncio.timeout(5):
            await asyncio.to_thread(index.begun.wait)  # as a search would
        with pytest.raises(DeadlineExceeded):
            await check(0.1)  # it waits for the others
    finally:
        index.release.set()
    assert [arm.files for arm in await asyncio.gather(*patient)] == ["looked at"] * 4
    assert index.most == 1
