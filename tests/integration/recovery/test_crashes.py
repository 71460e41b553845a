"""SIGKILL of the server and of its processes, at named points and at random, while several clients write.

Every write that was acknowledged is there after the next start, nothing that was deleted is, both arms equal
the log, and a request id has taken effect once. The kernel keeps what a killed process wrote, synced or not:
what a power failure does to writes that were not synced is not tested here.
"""

import time
from pathlib import Path
from random import Random, SystemRandom

import pytest
from tests.integration.crash.history import History, any_kill, short_round

from quarry.storage.faults import POINTS
from quarry.testing import make_tiny_encoder


@pytest.fixture
def history(tmp_path: Path, request: pytest.FixtureRequest) -> History:
    given = request.config.getoption("--crash-seed")
    seed = SystemRandom().randrange(10**9) if given is None else given
    print(f"crash seed {seed}")
    return History(tmp_path / "data", make_tiny_encoder(tmp_path / "encoder", seed=1), seed)


@pytest.mark.timeout(0)
async def test_nothing_acknowledged_is_lost_or_comes_back(
    history: History, request: pytest.FixtureRequest
) -> None:
    until = time.monotonic() + 3_600 * request.config.getoption("--crash-hours")
    for kill in short_round(history.random):
        await history.crash(kill)
    while time.monotonic() < until:
        await history.crash(any_kill(history.random))
    await history.check()
    print(f"{len(history.done)} crashes, {history.oracle.acknowledged} acknowledged writes")


def test_the_short_round_visits_every_point() -> None:
    assert {kill.what for kill in short_round(Random(0))} >= set(POINTS)
