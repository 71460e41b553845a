"""A stop, step by step, on a real server whose methods do as the test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from quarry_server.transport.drain import QUIET_S, DrainPolicy, RunningCalls, drain
from quarry_server.transport.interceptors import TypedErrors

CALL_S = 30.0
WORK_S = 20.0
SOON_S = QUIET_S + 2.0
HELD = ["first", "second", "third"]
"""Services that health knows."""
LARGE = b"x" * 2**20
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class Service:
    """Methods of four kinds; the slow ones end when ``done`` is set."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    taken: int = 0

    async def Slow(self, request: bytes, context: Context) -> bytes:
        self.begun.set()
        await self.done.wait()
        return b"done"

    async def Echo(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        self.begun.set()
        async for request in requests:
            if request == b"slow":
                await self.done.wait()
            yield request

    async def Collect(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        self.begun.set()
        return b"".join([request async for request in requests])

    async def Endless(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        while True:
            yield LARGE
            self.taken += 1
            self.begun.set()

    async def Written(self, request: bytes, context: Context) -> None:
        self.begun.set()
        await context.write(b"a")
        await self.done.wait()
        await context.write(b"b")

    async def Quick(self, request: bytes, context: Context) -> bytes:
        return request


@dataclass
class Running:
    service: Service
    server: grpc.aio.Server
    channel: grpc.aio.Channel
    health: health.aio.HealthServicer
    calls: RunningCalls

    async def drain(self, notice_s: float = 0.0, work_s: float = WORK_S) -> float:
        """How many seconds it took."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await drain(self.server, self.health, ["", *HELD], self.calls, DrainPolicy(notice_s, work_s))
        return loop.time() - begun

    def quick(self, **settings: Any) -> Any:
        return self.channel.unary_unary("/test/Quick")(b"", timeout=CALL_S, **settings)


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    service, calls, servicer = Service(), RunningCalls(), health.aio.HealthServicer()
    server = grpc.aio.server(interceptors=[calls, TypedErrors()])
    handlers = {
        "Slow": grpc.unary_unary_rpc_method_handler(service.Slow),
        "Quick": grpc.unary_unary_rpc_method_handler(service.Quick),
        "Echo": grpc.stream_stream_rpc_method_handler(service.Echo),
        "Collect": grpc.stream_unary_rpc_method_handler(service.Collect),
        "Written": grpc.unary_stream_rpc_method_handler(service.Written),
        "Endless": grpc.unary_stream_rpc_method_handler(service.Endless),
    }
    waiting = {"WaitOperation": handlers["Slow"]}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("test", handlers),
            grpc.method_handlers_generic_handler("google.longrunning.Operations", waiting),
        )
    )
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Running(service, server, channel, servicer, calls)
    await server.stop(None)


async def test_a_server_without_calls_stops_at_once(running: Running) -> None:
    await running.quick()
    assert await running.drain() < QUIET_S / 2


async def test_calls_are_taken_during_the_notice_and_refused_after_it(running: Running) -> None:
    watch = health_pb2_grpc.HealthStub(running.channel).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    draining = asyncio.create_task(running.drain(notice_s=0.5))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    await running.quick()
    assert 0.5 <= await draining < 0.5 + SOON_S
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await running.quick()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watch.read()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


class Unread:
    """The context of a call whose client reads nothing."""

    def __init__(self) -> None:
        self.written = asyncio.Event()

    async def write(self, message: object) -> None:
        self.written.set()
        await asyncio.Event().wait()


async def test_a_watcher_that_does_not_read_holds_its_own_service_and_is_logged(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    for service in HELD:
        await running.health.set(service, health_pb2.HealthCheckResponse.SERVING)
    unread = Unread()
    request = health_pb2.HealthCheckRequest(service=HELD[0])
    watching = asyncio.create_task(running.health.Watch(request, unread))
    await unread.written.wait()
    draining = asyncio.create_task(running.drain(notice_s=CALL_S))
    told = health_pb2_grpc.HealthStub(running.channel).Watch(health_pb2.HealthCheckRequest(service=HELD[2]))
    async with asyncio.timeout(SOON_S):
        while (await told.read()).status != health_pb2.HealthCheckResponse.NOT_SERVING:
            pass
        while not caplog.messages:  # noqa: ASYNC110  no event tells of a line in the log
            await asyncio.sleep(0.01)
    assert HELD[0] in caplog.text
    assert HELD[1] not in caplog.text
    for task in (draining, watching):
        task.cancel()
    await asyncio.gather(draining, watching, return_exceptions=True)


async def test_a_method_that_writes_to_its_context_is_at_work_until_it_returns(running: Running) -> None:
    stream = running.channel.unary_stream("/test/Written")(b"", timeout=CALL_S)
    assert await stream.read() == b"a"
    draining = asyncio.create_task(running.drain())
    await asyncio.wait([draining], timeout=2 * QUIET_S)
    assert not draining.done()
    running.service.done.set()
    assert await stream.read() == b"b"
    assert await stream.read() is grpc.aio.EOF
    assert await draining < 2 * QUIET_S + SOON_S


async def test_new_calls_are_refused_while_another_still_works(running: Running) -> None:
    slow = running.channel.unary_unary("/test/Slow")(b"", timeout=CALL_S)
    await running.service.begun.wait()
    draining = asyncio.create_task(running.drain())
    async with asyncio.timeout(CALL_S):
        await running.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)  # the server says goodbye
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await running.quick()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not draining.done()
    running.service.done.set()
    assert await slow == b"done"
    assert await draining < SOON_S


async def test_a_call_at_work_has_its_time_although_others_are_idle(running: Running) -> None:
    idle = running.channel.stream_stream("/test/Echo")(timeout=CALL_S)
    await idle.write(b"a")
    assert await idle.read() == b"a"
    slow = running.channel.unary_unary("/test/Slow")(b"", timeout=CALL_S)
    running.service.begun.clear()
    await running.service.begun.wait()
    draining = asyncio.create_task(running.drain())
    await asyncio.wait([draining], timeout=2 * QUIET_S)  # longer than idle calls alone are left
    assert not draining.done()
    running.service.done.set()
    assert await slow == b"done"
    assert await draining < 2 * QUIET_S + SOON_S


async def test_a_stream_that_is_answered_slowly_is_at_work(running: Running) -> None:
    stream = running.channel.stream_stream("/test/Echo")(timeout=CALL_S)
    await stream.write(b"slow")
    draining = asyncio.create_task(running.drain())
    await asyncio.wait([draining], timeout=2 * QUIET_S)
    assert not draining.done()
    running.service.done.set()
    assert await stream.read() == b"slow"
    await draining


async def test_a_stream_in_use_goes_on(running: Running) -> None:
    stream = running.channel.stream_stream("/test/Echo")(timeout=CALL_S)
    await stream.write(b"a")
    assert await stream.read() == b"a"
    draining = asyncio.create_task(running.drain())
    for number in range(30):
        await stream.write(b"%d" % number)
        assert await stream.read() == b"%d" % number
        await asyncio.wait([draining], timeout=QUIET_S / 10)
    assert not draining.done()
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await draining < 3 * QUIET_S + SOON_S


async def test_idle_streams_hold_nothing_and_are_told_to_try_elsewhere(running: Running) -> None:
    echoes = [running.channel.stream_stream("/test/Echo")(timeout=CALL_S) for _ in range(3)]
    for echo in echoes:
        await echo.write(b"a")
        assert await echo.read() == b"a"
    running.service.begun.clear()
    collect = running.channel.stream_unary("/test/Collect")(timeout=CALL_S)
    await collect.write(b"a")
    await running.service.begun.wait()
    assert await running.drain() < SOON_S
    for stream in (*echoes, collect):
        assert await stream.code() is grpc.StatusCode.UNAVAILABLE
        assert await stream.details() == "the server is stopping"
        assert any(key == "grpc-status-details-bin" for key, _ in await stream.trailing_metadata())


async def test_who_only_waits_for_an_operation_holds_nothing(running: Running) -> None:
    call = running.channel.unary_unary("/google.longrunning.Operations/WaitOperation")(b"", timeout=CALL_S)
    await running.service.begun.wait()
    assert await running.drain() < SOON_S
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_answer_that_nobody_takes_holds_nothing(running: Running) -> None:
    stream = running.channel.unary_stream("/test/Endless")(b"", timeout=CALL_S)
    await running.service.begun.wait()
    await stream.read()
    assert await running.drain() < SOON_S
    assert running.service.taken < 100


async def test_work_past_its_time_is_ended(running: Running) -> None:
    slow = running.channel.unary_unary("/test/Slow")(b"", timeout=CALL_S)
    await running.service.begun.wait()
    assert 0.3 <= await running.drain(work_s=0.3) < 0.3 + SOON_S
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await slow
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_calls_that_clients_give_up_are_at_work_no_more(running: Running) -> None:
    """Else a stop would wait for them in vain."""
    for kind, method in (
        (running.channel.unary_unary, "Slow"),
        (running.channel.unary_stream, "Endless"),
        (running.channel.stream_stream, "Echo"),
    ):
        running.service.begun.clear()
        call: Any = kind(f"/test/{method}")(*(() if method == "Echo" else (b"",)), timeout=CALL_S)
        if method == "Echo":
            await call.write(b"slow")
        await running.service.begun.wait()
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await call.code()
    async with asyncio.timeout(SOON_S):
        await running.calls.wait_until_quiet(QUIET_S / 4)
