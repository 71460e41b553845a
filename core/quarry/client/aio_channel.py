"""The same channel as ``quarry.client.channel``, for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any

import grpc

from quarry.client.channel import DEFAULT_TIMEOUT_S, Options, StubMethods, resolve_deadline
from quarry.client.retries import is_safe_to_repeat
from quarry.client.sources import SentRequests
from quarry.client.tls import Tls


class _Method:
    """One method of a stub, called as gRPC's own: ``await method(request, timeout=...)``."""

    def __init__(
        self,
        channel: StubMethods,
        path: str,
        once: Any,
        repeating: Any,
        default_s: float | None,
        streams: bool,
    ) -> None:
        self._channel, self._path, self._default_s, self._streams = channel, path, default_s, streams
        self._once, self._repeating = once, repeating

    def __call__(self, request: Any = None, *, timeout: float | None = None, **options: Any) -> "_Call":
        self._channel.check_open()
        method = self._repeating if is_safe_to_repeat(self._path, request) else self._once
        deadline_s = resolve_deadline(timeout, self._default_s)
        sent = SentRequests(request) if self._streams and request is not None else None
        with self._channel.translate_errors(sent):
            call = method(sent.read() if sent else request, timeout=deadline_s, **options)
        return _Call(self._channel, call, sent)


class _Call:
    """A call that goes on: awaits its answer, or reads many. Passes all else on to gRPC's."""

    def __init__(self, channel: StubMethods, call: Any, sent: SentRequests | None) -> None:
        self._channel, self._call, self._sent = channel, call, sent

    def __await__(self) -> Generator[Any, None, Any]:
        with self._channel.translate_errors(self._sent):
            return (yield from self._call.__await__())

    async def __aiter__(self) -> AsyncIterator[Any]:
        with self._channel.translate_errors(self._sent):
            async for answer in self._call:
                yield answer

    async def read(self) -> Any:
        with self._channel.translate_errors(self._sent):
            return await self._call.read()

    async def write(self, request: Any) -> None:
        """Raises what ended the call if it has ended, as reading does."""
        with self._channel.translate_errors():
            try:
                await self._call.write(request)
            except asyncio.InvalidStateError:
                await self._call.read()
                raise

    async def done_writing(self) -> None:
        with self._channel.translate_errors():
            await self._call.done_writing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class CheckedAioChannel(StubMethods, grpc.aio.Channel):
    """A channel to one server, for generated stubs. ``CheckedChannel`` says what it does.

    It belongs to the event loop that runs while it is made.
    """

    _method_type = _Method

    def __init__(
        self,
        address: str,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        options: Options = (),
        tls: Tls | None = None,
    ) -> None:
        self._open(grpc.aio, address, timeout_s, options, tls)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        self.check_open()
        state: grpc.ChannelConnectivity = self._repeating.get_state(try_to_connect)
        return state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        self.check_open()
        await self._repeating.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        self.check_open()
        await self._repeating.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Ends all calls and the connection. Closing again does nothing."""
        self._closed = True
        await self._repeating.close(grace)
        await self._once.close(grace)

    async def __aenter__(self) -> "CheckedAioChannel":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
