"""A channel whose calls have deadlines, are made again where that is safe, and raise typed errors."""

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from quarry.client.addresses import is_unix_address, write_grpc_target
from quarry.client.errors import ClientClosedError, QuarryCallError, read_call_error
from quarry.client.retries import build_retry_config, is_safe_to_repeat
from quarry.client.sources import SentRequests
from quarry.client.tls import Tls, explain_connection

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 30.0
MAX_MESSAGE_BYTES = 64 * 2**20
"""Largest message that is sent or taken. The server's own limit, which may be lower, is for it to enforce."""

Options = Iterable[tuple[str, Any]]


def build_channel_options(repeat: bool, options: Options) -> list[tuple[str, Any]]:
    """Returns gRPC's options of a channel, of which ``options`` come last and win.

    Args:
        repeat: calls that fail with UNAVAILABLE are made again.
    """
    own: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # gRPC makes no call again whose request does not fit in here, 256 KiB by default. Both channels have
        # it, since channels whose options differ share no connection.
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    ]
    if repeat:
        own.append(("grpc.service_config", build_retry_config()))
    return [*own, *options]


def resolve_deadline(timeout_s: float | None, default_s: float | None) -> float | None:
    """Returns the deadline of a call in seconds; None, which an infinite number asks for, means none."""
    chosen = default_s if timeout_s is None else timeout_s
    return None if chosen is None or math.isinf(chosen) else chosen


class StubMethods:
    """The methods that generated stubs ask a channel for, shared by synchronous and asynchronous channels.

    Two gRPC channels, which share one connection, stand behind it. One repeats calls that fail with
    UNAVAILABLE; the other does not, and carries what is not safe to repeat.
    """

    _method_type: Callable[..., Any]

    def _open(
        self,
        grpc_module: Any,
        address: str,
        timeout_s: float,
        options: Options,
        tls: Tls | None,
    ) -> None:
        """Opens both channels.

        Args:
            grpc_module: whose channels these are: ``grpc``, or ``grpc.aio``.
        """
        if tls is not None and is_unix_address(address):
            raise ValueError(f"{address}: a Unix socket has no TLS; its file says who may open it")
        target, options = write_grpc_target(address), list(options)
        credentials = None if tls is None else tls.make_credentials()

        def connect(repeat: bool) -> Any:
            built = build_channel_options(repeat, options)
            if credentials is None:
                return grpc_module.insecure_channel(target, built)
            return grpc_module.secure_channel(target, credentials, built)

        try:
            self._repeating, self._once = connect(repeat=True), connect(repeat=False)
        except RuntimeError as error:
            raise ValueError(str(error)) from None
        self.timeout_s, self._tls = timeout_s, tls
        self._closed = False

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **named: Any
    ) -> Any:
        coding = (request_serializer, response_deserializer)
        return self._make_method("unary_unary", method, self.timeout_s, coding, named)

    def unary_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **named: Any
    ) -> Any:
        coding = (request_serializer, response_deserializer)
        return self._make_method("unary_stream", method, self.timeout_s, coding, named)

    def stream_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **named: Any
    ) -> Any:
        coding = (request_serializer, response_deserializer)
        return self._make_method("stream_unary", method, self.timeout_s, coding, named)

    def stream_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **named: Any
    ) -> Any:
        coding = (request_serializer, response_deserializer)
        return self._make_method("stream_stream", method, None, coding, named)

    def _make_method(
        self, kind: str, path: str, default_s: float | None, coding: tuple[Any, Any], named: Any
    ) -> Any:
        self.check_open()  # gRPC crashes the interpreter when a stub is made on a channel that it closed
        once, repeating = (
            getattr(channel, kind)(path, *coding, **named) for channel in (self._once, self._repeating)
        )
        return self._method_type(self, path, once, repeating, default_s, kind.startswith("stream"))

    def check_open(self) -> None:
        """Raises ClientClosedError after ``close``."""
        if self._closed:
            raise ClientClosedError

    @contextmanager
    def translate_errors(self, sent: SentRequests | None = None) -> Iterator[None]:
        """Raises QuarryCallError in place of gRPC's errors, ClientClosedError if the channel was closed.

        What the source of a call's requests raised comes first: it is why the call failed.
        """
        try:
            yield
        except (grpc.RpcError, asyncio.CancelledError) as error:  # grpc.aio cancels a call whose source fails
            if sent is not None and sent.error is not None:
                raise sent.error from None
            if isinstance(error, asyncio.CancelledError) and (not self._closed or _is_cancelled()):
                raise
            if self._closed or not isinstance(error, grpc.RpcError):
                raise ClientClosedError from error
            raise self.read_error(error) from error
        except (ValueError, grpc.aio.UsageError) as error:  # someone else closed the channel meanwhile
            if self._closed:
                raise ClientClosedError from error
            raise

    def read_error(self, error: grpc.RpcError) -> QuarryCallError:
        """Reads what a failed call says. It says what to do if TLS is why there is no connection."""
        return explain_connection(read_call_error(error), self._tls)


def _is_cancelled() -> bool:
    """Tells whether somebody cancelled the task that runs; closing a channel cancels calls, and no task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Method:
    """One method of a stub, called as gRPC's own: ``method(request, timeout=...)``."""

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

    def __call__(self, request: Any, timeout: float | None = None, **options: Any) -> Any:
        answer, sent = self._start("__call__", request, timeout, options)
        return _Call(self._channel, answer, sent) if isinstance(answer, grpc.Call) else answer

    def with_call(self, request: Any, timeout: float | None = None, **options: Any) -> Any:
        """Returns the answer and gRPC's call, which has its metadata."""
        return self._start("with_call", request, timeout, options)[0]

    def future(self, request: Any, timeout: float | None = None, **options: Any) -> "_Call":
        """Returns at once; ``result()`` waits for the answer."""
        return _Call(self._channel, *self._start("future", request, timeout, options))

    def _start(self, how: str, request: Any, timeout: float | None, options: dict[str, Any]) -> Any:
        self._channel.check_open()
        method = self._repeating if is_safe_to_repeat(self._path, request) else self._once
        deadline_s = resolve_deadline(timeout, self._default_s)
        sent = SentRequests(request) if self._streams else None
        with self._channel.translate_errors(sent):
            return getattr(method, how)(iter(sent) if sent else request, timeout=deadline_s, **options), sent


class _Call:
    """A call that goes on: iterates its answers, or waits for the only one. Passes all else on to gRPC's."""

    def __init__(self, channel: StubMethods, call: Any, sent: SentRequests | None) -> None:
        self._channel, self._call, self._sent = channel, call, sent

    def __iter__(self) -> "_Call":
        return self

    def __next__(self) -> Any:
        with self._channel.translate_errors(self._sent):
            return next(self._call)

    def result(self, timeout: float | None = None) -> Any:
        with self._channel.translate_errors(self._sent):
            return self._call.result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        error = self._call.exception(timeout)
        return self._channel.read_error(error) if isinstance(error, grpc.RpcError) else error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class CheckedChannel(StubMethods, grpc.Channel):
    """A channel to one server, for generated stubs.

    Args:
        address: ``HOST:PORT``, or ``unix:PATH``.
        timeout_s: deadline of a call that names none. A stream of both requests and answers, which is as
            long as its input, has none.
        options: further options of gRPC.
        tls: the certificates, if the server speaks TLS; None for plaintext.

    Raises:
        ValueError: gRPC cannot use the address or an option, or a file of ``tls`` cannot be used.
    """

    _method_type = _Method

    def __init__(
        self,
        address: str,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        options: Options = (),
        tls: Tls | None = None,
    ) -> None:
        self._open(grpc, address, timeout_s, options, tls)

    def subscribe(self, callback: Callable[..., None], try_to_connect: bool = False) -> None:
        self.check_open()
        self._repeating.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[..., None]) -> None:
        self._repeating.unsubscribe(callback)

    def close(self) -> None:
        """Ends all calls and the connection. Closing again does nothing."""
        self._closed = True
        self._repeating.close()
        self._once.close()

    def __enter__(self) -> "CheckedChannel":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
