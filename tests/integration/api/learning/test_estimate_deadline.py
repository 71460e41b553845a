"""EstimateRelevance answers within its deadline, and its work ends with it."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE
from tests.integration.api.helpers.mining import Mining
from tests.integration.api.helpers.served import CALL_S, Api, Failure, failure, served, tiny_settings

from quarry.v1 import mining_service_pb2 as pb

DEADLINE_S = 4.0
"""The server answers 0.4 s before the caller would give up by itself, even on a busy machine."""
LATE_S = 4.0
"""Far more than an answer takes that waits for no job: one that does not react is killed after 5 s."""
GONE_S = 120.0
"""Jobs run when nothing else does. A killed one, too, needs time on a processor to end."""
REQUEST = pb.EstimateRelevanceRequest(collection="own")


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Iterator[Api]:
    """A server whose default deadline is short, too."""
    data = tmp_path_factory.mktemp("estimates")
    with served(tiny_settings(data, encoder_folder, search={"default_deadline_s": DEADLINE_S})) as api:
        api.create("own", schema=SCHEMA_MESSAGE, encoder="none")
        yield api


def jobs() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "quarry_miner.job" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def until(condition: Callable[[], Any]) -> None:
    """Waits for what another process brings about, of which no event reaches this one."""
    end = time.monotonic() + GONE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def timed_failure(api: Api, timeout_s: float | None) -> tuple[Failure, float]:
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        Mining(api).stub.EstimateRelevance(REQUEST, timeout=timeout_s)
    return failure(caught.value), time.monotonic() - begun


def stop_jobs() -> None:
    """Lets no job that has started get any further, so that the deadline is what ends its call."""
    for job in jobs():
        with contextlib.suppress(psutil.NoSuchProcess):
            job.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize("timeout_s", [DEADLINE_S, None], ids=["the caller's", "the server's default"])
def test_the_answer_comes_within_the_deadline_and_a_job_that_does_not_react_is_killed(
    hasty: Api, timeout_s: float | None
) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(timed_failure, hasty, timeout_s)
        until(lambda: jobs() or waiting.done())
        stop_jobs()
        failed, seconds = waiting.result(CALL_S)
    assert failed.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert seconds < DEADLINE_S + LATE_S
    until(lambda: not jobs())


def test_what_waits_behind_another_estimate_is_answered_in_time_too(hasty: Api) -> None:
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(timed_failure, hasty, DEADLINE_S) for _ in range(4)]
        until(lambda: jobs() or all(call.done() for call in waiting))
        stop_jobs()
        found = [call.result(CALL_S) for call in waiting]
    assert {failed.code for failed, _ in found} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert max(seconds for _, seconds in found) < DEADLINE_S + LATE_S
    until(lambda: not jobs())
