"""Request ids: a repeated write returns what the first one did, and does nothing."""

import hashlib
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from quarry.documents.catalog import now_us
from quarry.documents.tables import marks, requests
from quarry.errors import InvalidArgumentError, RequestIdReusedError
from quarry.storage.trusted_clock import MARK

T = TypeVar("T")
LIFETIME_US = 24 * 3_600 * 1_000_000
MAX_REQUEST_ID_CHARS = 36


def check_request_id(request_id: str) -> None:
    """Raises InvalidArgumentError unless it is empty or at most 36 printable ASCII characters (AIP-155)."""
    if len(request_id) > MAX_REQUEST_ID_CHARS or not all(" " < c <= "~" for c in request_id):
        raise InvalidArgumentError("request_id", f"is not at most {MAX_REQUEST_ID_CHARS} printable ASCII")


def once(
    connection: sa.Connection,
    scope: str,
    request_id: str,
    request: bytes,
    write: Callable[[], T],
    dump: Callable[[T], bytes],
    load: Callable[[bytes], T],
) -> T:
    """``write()``, or what it gave when ``request_id`` was first used in ``scope``.

    The result is kept in the write's own transaction, so either both are on disk or neither.

    Args:
        scope: within which ids are unique, such as a collection and a method.
        request: the whole request; the same id with another request is refused.

    Raises:
        InvalidArgumentError: the id was used for another request.
    """
    if not request_id:
        return write()
    _forget_old(connection)
    known = recall(connection, scope, request_id, request, load)
    if known is not None:
        return known
    result = write()
    connection.execute(
        sa.insert(requests).values(
            scope=scope,
            request_id=request_id,
            request_hash=_digest(request),
            result=dump(result),
            create_time_us=now_us(),
        )
    )
    return result


def recall(
    connection: sa.Connection, scope: str, request_id: str, request: bytes, load: Callable[[bytes], T]
) -> T | None:
    """What the write gave when ``request_id`` was first used; None if it was not. Raises as ``once``."""
    query = sa.select(requests).where(requests.c.scope == scope, requests.c.request_id == request_id)
    row = connection.execute(query).first() if request_id else None
    if row is None:
        return None
    if row.request_hash != _digest(request):
        raise RequestIdReusedError("request_id", "was used before, for another request")
    return load(row.result)


def forget(connection: sa.Connection, scope: str, request_id: str) -> None:
    """As if ``request_id`` had never been used."""
    connection.execute(
        sa.delete(requests).where(requests.c.scope == scope, requests.c.request_id == request_id)
    )


def _digest(request: bytes) -> bytes:
    return hashlib.blake2b(request, digest_size=16).digest()


def _forget_old(connection: sa.Connection) -> None:
    """A clock that jumps ahead must not let a retry double its write: the folder's own clock counts."""
    remembered = connection.scalar(sa.select(marks.c.value).where(marks.c.name == MARK))
    now = min(now_us(), int(remembered.split(",")[1])) if remembered else now_us()
    connection.execute(sa.delete(requests).where(requests.c.create_time_us < now - LIFETIME_US))
