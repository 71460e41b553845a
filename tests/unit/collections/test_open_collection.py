import asyncio
from typing import Any

import pytest

from quarry.collections.collection_handle import CollectionHandle
from quarry.deadline import Deadline
from quarry.documents.log import WriteOutcome
from quarry.documents.store import RequestId

REQUEST = RequestId("", "upsert", b"")


class SlowLog:
    """A log whose commit takes until it is allowed."""

    def __init__(self) -> None:
        self.entered, self.commit, self.committed = asyncio.Event(), asyncio.Event(), False

    async def delete(self, ids: Any, request: RequestId) -> list[WriteOutcome]:
        self.entered.set()
        await self.commit.wait()
        self.committed = True
        return [WriteOutcome("a", 1)]


class Followers:
    """What a generation is told."""

    def __init__(self, log: SlowLog) -> None:
        self.followers: dict[str, Any] = {}
        self.notified = asyncio.Event()
        self._log = log

    def notify(self) -> None:
        assert self._log.committed, "followers that look now find nothing, and sleep on"
        self.notified.set()


async def test_followers_hear_of_a_write_whose_caller_has_gone() -> None:
    log = SlowLog()
    generation = Followers(log)
    collection = CollectionHandle(None, log, generation)  # type: ignore[arg-type]
    call = asyncio.create_task(collection.delete(["a"], REQUEST, False, Deadline()))
    await log.entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not generation.notified.is_set()
    log.commit.set()
    async with asyncio.timeout(10):
        await generation.notified.wait()
