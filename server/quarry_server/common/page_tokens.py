"""Page tokens of every method that has pages (AIP-158): written here, read here, and nowhere else.

A token names its method, a digest of the request that it was given for, and the place where the next page
starts. It is bound to that request, collection and filter included; only the page's size may change.
"""

import base64
import binascii
import hashlib
from typing import Any, Generic, TypeVar, cast

import orjson
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from quarry.errors import InvalidArgumentError, InvalidTokenError
from quarry.v1 import (
    collection_service_pb2,
    document_service_pb2,
    mining_service_pb2,
    model_service_pb2,
    search_service_pb2,
    training_service_pb2,
)

P = TypeVar("P", bound=tuple[str | int, ...])
MAX_TOKEN_BYTES = 8_192
"""More than the longest id of a document takes, whatever its characters are."""
_MAX_INTEGER = 2**63 - 1
"""Places go into SQL, whose integers end here."""
_NOT_OURS = "is not a token that this server gave"


class PageTokens(Generic[P]):
    """The tokens of one method.

    Args:
        request: the method's type of request.
        kinds: ``str`` or ``int`` for each part of a place; integers are at least 0.
    """

    def __init__(self, request: type[Message], *kinds: type[str] | type[int]) -> None:
        self.request, self.kinds = request, kinds
        self.method = request.DESCRIPTOR.full_name.removesuffix("Request")

    def encode(self, place: P, request: Message) -> str:
        """Encodes the token of the page that starts at ``place`` in the list that ``request`` asked for."""
        parts = [self.method, self._compute_digest(place, request), *place]
        return base64.urlsafe_b64encode(orjson.dumps(parts)).decode()

    def parse(self, request: Any) -> P | None:
        """Parses the place that the request's ``page_token`` names; None if it asks for the first page.

        Raises InvalidArgumentError unless ``encode`` made the token for this method and such a request.
        """
        token: str = request.page_token
        if not token:
            return None
        parts = _decode(token)
        if parts[0] != self.method:
            raise _refuse("belongs to another method" if parts[0] in METHODS else _NOT_OURS)
        place = cast(P, tuple(parts[2:]))
        if not self._fits(place):
            raise _refuse(_NOT_OURS)
        if token != self.encode(place, request):
            raise _refuse("belongs to a request with other arguments")
        return place

    def _fits(self, place: tuple[str | int, ...]) -> bool:
        return len(place) == len(self.kinds) and all(
            type(part) is kind and (isinstance(part, str) or 0 <= part <= _MAX_INTEGER)
            for part, kind in zip(place, self.kinds, strict=True)
        )

    def _compute_digest(self, place: P, request: Message) -> str:
        """Computes a digest of the method, the place, and all of the request but its page's size and
        token."""
        same = self.request()
        same.CopyFrom(request)
        same.ClearField("page_size")
        same.ClearField("page_token")
        raw = orjson.dumps([self.method, *place]) + same.SerializeToString(deterministic=True)
        return hashlib.blake2b(raw, digest_size=8).hexdigest()


def _decode(token: str) -> list[Any]:
    """Decodes the parts of a token. Raises InvalidArgumentError if it has none, or not a method's name
    first."""
    if len(token) > MAX_TOKEN_BYTES:
        raise _refuse(f"has {len(token)} characters, at most {MAX_TOKEN_BYTES} are allowed")
    try:
        parts = orjson.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise _refuse(_NOT_OURS) from None
    if not isinstance(parts, list) or not parts or not isinstance(parts[0], str):
        raise _refuse(_NOT_OURS)
    return parts


def _refuse(problem: str) -> InvalidArgumentError:
    return InvalidTokenError("page_token", problem)


COLLECTIONS: PageTokens[tuple[str]] = PageTokens(collection_service_pb2.ListCollectionsRequest, str)
"""The last name of the page before."""
ALIASES: PageTokens[tuple[str]] = PageTokens(collection_service_pb2.ListAliasesRequest, str)
"""The last name of the page before."""
DOCUMENTS: PageTokens[tuple[str]] = PageTokens(document_service_pb2.ListDocumentsRequest, str)
"""The last id of the page before."""
OPERATIONS: PageTokens[tuple[str]] = PageTokens(operations_pb2.ListOperationsRequest, str)
"""The last name of the page before."""
MODELS: PageTokens[tuple[int, int, int]] = PageTokens(model_service_pb2.ListModelsRequest, int, int, int)
"""As ``quarry.registry.versions.Place``."""
RANKINGS: PageTokens[tuple[int, int, int]] = PageTokens(model_service_pb2.ListRankingsRequest, int, int, int)
"""As ``MODELS``."""
MINING_SETS: PageTokens[tuple[int, str]] = PageTokens(mining_service_pb2.ListMiningSetsRequest, int, str)
"""Create time in microseconds, and name, of the last set of the page before."""
LOOP_REPORTS: PageTokens[tuple[int, str]] = PageTokens(training_service_pb2.ListLoopReportsRequest, int, str)
"""Start time in microseconds, and name, of the last report of the page before."""
SEARCH: PageTokens[tuple[str, int, int]] = PageTokens(search_service_pb2.SearchRequest, str, int, int)
"""As ``quarry.search.result_pages.ListPlace``."""

ALL: tuple[PageTokens[Any], ...] = (
    COLLECTIONS,
    ALIASES,
    DOCUMENTS,
    OPERATIONS,
    MODELS,
    RANKINGS,
    MINING_SETS,
    LOOP_REPORTS,
    SEARCH,
)
METHODS = frozenset(tokens.method for tokens in ALL)
