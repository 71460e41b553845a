"""The stop of a server: it says so, waits, refuses new calls, and gives those at work their time."""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from quarry.errors import UnavailableError

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]

QUIET_S = 1.0
"""A stop ends calls that wait for their clients once no call has worked for so long."""
ANSWER_S = 0.5
"""Clients have so long to read what the server tells them when it stops. It cuts off what is left then."""
WAITING = frozenset({"/grpc.health.v1.Health/Watch", "/google.longrunning.Operations/WaitOperation"})
"""Methods that only wait for what happens elsewhere."""


class RunningCalls(grpc.aio.ServerInterceptor):
    """Knows whether a call is at work. One that waits for its client is not: a stream on which nothing
    comes, an answer that is not taken."""

    def __init__(self) -> None:
        self._working, self._since_s = 0, 0.0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        if handler is None or handler_call_details.method in WAITING:
            return handler
        factory, name, wrap = {
            (False, False): (grpc.unary_unary_rpc_method_handler, "unary_unary", self._count_answering),
            (False, True): (grpc.unary_stream_rpc_method_handler, "unary_stream", self._count_streaming),
            (True, False): (grpc.stream_unary_rpc_method_handler, "stream_unary", self._count_answering),
            (True, True): (grpc.stream_stream_rpc_method_handler, "stream_stream", self._count_streaming),
        }[handler.request_streaming, handler.response_streaming]
        behaviour = getattr(handler, name)
        if handler.response_streaming and not inspect.isasyncgenfunction(behaviour):
            wrap = (
                self._count_answering
            )  # it writes to the context by itself, and is at work until it returns
        return factory(
            wrap(behaviour, handler.request_streaming),
            handler.request_deserializer,
            handler.response_serializer,
        )

    async def wait_until_quiet(self, seconds: float) -> None:
        """Returns when no call has worked for so long."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        while True:
            await self._quiet.wait()
            missing_s = max(begun_s, self._since_s) + seconds - loop.time()
            if missing_s <= 0:
                return
            await asyncio.sleep(missing_s)

    def end_idle_streams(self) -> None:
        """Streams on which nothing comes fail with UnavailableError, now and from now on."""
        if not self._ended.done():
            self._ended.set_result(None)

    def _count_answering(self, behaviour: Any, request_streaming: bool) -> Any:
        async def call(request: Any, context: Context) -> Any:
            with self._count_work():
                given = self._count_received(request) if request_streaming else request
                return await behaviour(given, context)

        return call

    def _count_streaming(self, behaviour: Any, request_streaming: bool) -> Any:
        async def call(request: Any, context: Context) -> Any:
            with self._count_work():
                given = self._count_received(request) if request_streaming else request
                async for response in behaviour(given, context):
                    with self._pause_count():
                        yield response

        return call

    async def _count_received(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        while True:
            coming = asyncio.ensure_future(anext(requests))
            try:
                with self._pause_count():
                    await asyncio.wait([coming, self._ended], return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    raise UnavailableError("the server is stopping")
                request = coming.result()
            except StopAsyncIteration:
                return
            finally:
                coming.cancel()
            yield request

    @contextlib.contextmanager
    def _count_work(self) -> Iterator[None]:
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    @contextlib.contextmanager
    def _pause_count(self) -> Iterator[None]:
        self._count(-1)
        try:
            yield
        finally:
            self._count(1)

    def _count(self, change: int) -> None:
        self._working += change
        if self._working:
            self._quiet.clear()
        else:
            self._since_s = asyncio.get_running_loop().time()
            self._quiet.set()


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """The time that each step of a stop takes.

    Attributes:
        notice_s: between saying NOT_SERVING and refusing new calls, so that balancers send them elsewhere.
        work_s: that calls at work have from then on.
    """

    notice_s: float
    work_s: float


async def drain(
    server: grpc.aio.Server,
    servicer: health.aio.HealthServicer,
    services: Sequence[str],
    calls: RunningCalls,
    policy: DrainPolicy,
) -> None:
    """Says NOT_SERVING, waits, and refuses new calls; returns when no call is left.

    Calls at work have their time. Those that wait for their clients are ended, with UNAVAILABLE, as soon as
    nobody else works.

    Args:
        services: that health knows.
    """
    async with _announce_end(servicer, services):
        await asyncio.sleep(policy.notice_s)
        stopping = asyncio.create_task(server.stop(policy.work_s))
        quiet = asyncio.create_task(calls.wait_until_quiet(QUIET_S))
        await asyncio.wait([stopping, quiet], return_when=asyncio.FIRST_COMPLETED)
        quiet.cancel()
        calls.end_idle_streams()
        await asyncio.wait([stopping], timeout=ANSWER_S)
        await server.stop(None)
        await stopping
        await asyncio.gather(quiet, return_exceptions=True)


@contextlib.asynccontextmanager
async def _announce_end(servicer: health.aio.HealthServicer, services: Sequence[str]) -> AsyncIterator[None]:
    """Sets all services to NOT_SERVING for good, and logs those for which this takes too long.

    Each is set in a task of its own: a watcher that does not read what health writes holds its service, and
    must hold no other.
    """
    not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
    telling = {service: asyncio.create_task(servicer.set(service, not_serving)) for service in services}
    # Last, since health takes nothing after it.
    tasks = [*telling.values(), asyncio.create_task(servicer.enter_graceful_shutdown())]
    try:
        await asyncio.wait(tasks, timeout=ANSWER_S)
        untold = [service or "the whole server" for service, task in telling.items() if not task.done()]
        if untold:
            logger.warning("a watcher does not read, so health still says SERVING of %s", ", ".join(untold))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
