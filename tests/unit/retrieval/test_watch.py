"""What is done with a store process that is silent, and what the log says of it."""

import asyncio
from typing import Any

import pytest

from quarry.retrieval import heartbeat
from quarry.retrieval.edge import watch
from quarry.retrieval.edge.watch import Watch
from quarry.retrieval.heartbeat import Patience

NO_PROCESS = 2**22 + 1
"""Above the highest id that Linux gives, so that it does nothing."""


class Unkillable:
    """A process that waits for a disk: it neither answers nor dies."""

    pid = NO_PROCESS

    def __init__(self) -> None:
        self.hung: str | None = None
        self.refused = self.ended = 0

    async def call(self, method: str) -> None:
        await asyncio.Event().wait()

    def refuse(self, why: str | None) -> None:
        self.hung = why
        self.refused += 1

    def end(self) -> None:
        self.ended += 1

    async def wait_until_lost(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.skipif("sys.platform != 'linux'", reason="elsewhere every silent process counts as at work")
async def test_a_process_that_cannot_be_killed_is_ended_once_and_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "LOOK_S", 0.01)
    monkeypatch.setattr(watch, "KILL_TIMEOUT_S", 0.1)
    connection: Any = Unkillable()
    looked_at = Watch(connection, Patience(hung_after_s=0.05, restart_after_s=0.1))
    watching = asyncio.create_task(looked_at.wait_until_lost())
    async with asyncio.timeout(10):
        while connection.refused < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert connection.ended == 1
    assert caplog.text.count("is started again") == 1
    assert caplog.text.count(f"process {NO_PROCESS} cannot be killed") == 1
    assert (looked_at.problem or "").endswith("cannot be killed")
    watching.cancel()
    await asyncio.wait([watching])
