"""A log line for each call that changes more than documents and events: who called, and what was named.

What a client sends is escaped and cut, so that no client can write a log line of its own.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message

from quarry.errors import QuarryError

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]
MAX_CHARACTERS = 128
"""Of each value; what is longer is cut."""
MAX_VALUES = 8
"""Of a repeated field."""

LOGGED: Mapping[str, Sequence[str]] = {
    "quarry.v1.CollectionService/CreateCollection": ("collection.name",),
    "quarry.v1.CollectionService/UpdateCollection": ("collection.name", "update_mask.paths"),
    "quarry.v1.CollectionService/DeleteCollection": ("name",),
    "quarry.v1.CollectionService/RepairCollection": ("name",),
    "quarry.v1.CollectionService/Reindex": ("name", "validate_only"),
    "quarry.v1.CollectionService/PauseReindex": ("name",),
    "quarry.v1.CollectionService/ResumeReindex": ("name",),
    "quarry.v1.CollectionService/RollbackReindex": ("name",),
    "quarry.v1.CollectionService/DropPreviousGeneration": ("name",),
    "quarry.v1.CollectionService/SetAlias": ("name", "collection"),
    "quarry.v1.CollectionService/SetVocabulary": ("collection", "update_mask.paths"),
    "quarry.v1.CollectionService/DeleteAlias": ("name",),
    "quarry.v1.DocumentService/DeleteDocumentsByFilter": ("collection",),
    "quarry.v1.DocumentService/UpdateDocumentsByFilter": ("collection",),
    "quarry.v1.FeedbackService/ImportEvents": ("config.collection",),
    "quarry.v1.FeedbackService/PurgeFeedback": ("collection",),  # not whose: the log would keep the person
    "quarry.v1.MiningService/MineHardNegatives": ("collection",),
    "quarry.v1.ModelService/PromoteModel": ("name", "promoted_by"),
    "quarry.v1.ModelService/RollbackModel": ("collection", "promoted_by"),
    "quarry.v1.ModelService/RetireModel": ("name",),
    "quarry.v1.ModelService/ImportModel": ("options.collection", "options.source"),
    "quarry.v1.ModelService/PromoteRanking": ("name", "promoted_by"),
    "quarry.v1.ModelService/RollbackRanking": ("collection", "promoted_by"),
    "quarry.v1.TrainingService/UploadExamples": (),
    "quarry.v1.TrainingService/TrainReranker": ("collection",),
    "quarry.v1.TrainingService/TrainEncoder": ("collection",),
    "quarry.v1.TrainingService/DistillReranker": ("collection", "teacher"),
    "quarry.v1.TrainingService/EvaluateReranker": ("model",),
    "quarry.v1.TrainingService/TuneRanking": ("collection",),
    "quarry.v1.TrainingService/RunLoop": ("collection",),
    "google.longrunning.Operations/CancelOperation": ("name",),
    "google.longrunning.Operations/DeleteOperation": ("name",),
}
"""Methods, and what of their requests, or of the first message of a stream, says what they are about."""


class CallerLog(grpc.aio.ServerInterceptor):
    """Logs calls of the methods in ``LOGGED`` when they come, and again if they fail.

    It reads messages that are decoded already, so it stands behind the interceptor that decodes them.
    """

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method.removeprefix("/")
        if handler is None or method not in LOGGED:
            return handler
        if handler.request_streaming:
            factory, behaviour = (
                grpc.stream_unary_rpc_method_handler,
                _log_stream(method, handler.stream_unary),
            )
        else:
            factory, behaviour = grpc.unary_unary_rpc_method_handler, _log_call(method, handler.unary_unary)
        return factory(behaviour, handler.request_deserializer, handler.response_serializer)


class _Call:
    """The log lines of one call."""

    def __init__(self, method: str, context: Context) -> None:
        self._method, self._peer = method, context.peer()
        self._line = ""

    def begin(self, request: Message) -> None:
        self._line = write_call_line(self._method, request, self._peer)
        logger.info("%s", self._line)

    @contextmanager
    def _log_failures(self) -> Iterator[None]:
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:
            if self._line:
                reason = error.reason if isinstance(error, QuarryError) else type(error).__name__
                logger.info("%s failed: %s", self._line, reason)
            raise


def _log_call(method: str, behaviour: Any) -> Any:
    async def call(request: Message, context: Context) -> Any:
        logged = _Call(method, context)
        logged.begin(request)
        with logged._log_failures():
            return await behaviour(request, context)

    return call


def _log_stream(method: str, behaviour: Any) -> Any:
    async def call(requests: AsyncIterator[Message], context: Context) -> Any:
        logged = _Call(method, context)
        with logged._log_failures():
            return await behaviour(_log_beginning(requests, logged), context)

    return call


async def _log_beginning(requests: AsyncIterator[Message], logged: _Call) -> AsyncIterator[Message]:
    """Yields the same messages; the first one begins the call."""
    begun = False
    async for request in requests:
        if not begun:
            logged.begin(request)
            begun = True
        yield request


def write_call_line(method: str, request: Message, peer: str) -> str:
    """Writes ``DeleteCollection name='faq' by ipv4:127.0.0.1:50000``, in ASCII, whatever the request
    holds."""
    named = [f"{path}={_quote(_find_value(request, path))}" for path in LOGGED[method]]
    return " ".join([method.rpartition("/")[2], *named, "by", _quote(unquote(peer)).strip("'")])


def _find_value(request: Message, path: str) -> Any:
    found: Any = request
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _quote(value: Any) -> str:
    if isinstance(value, str):
        kept = ascii(value[:MAX_CHARACTERS])
        return kept if len(value) <= MAX_CHARACTERS else f"{kept} and {len(value) - MAX_CHARACTERS} more"
    if isinstance(value, (bool, int, float)):
        return str(value)
    listed = f"[{', '.join(_quote(one) for one in value[:MAX_VALUES])}]"
    return listed if len(value) <= MAX_VALUES else f"{listed} and {len(value) - MAX_VALUES} more"
