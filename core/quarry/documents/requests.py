"""Request ids: a repeated write returns what the first one did, and does nothing."""

import hashlib
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from quarry.documents.catalog import read_now_us
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


def run_once(
    connection: sa.Connection,
    scope: str,
    request_id: str,
    request: bytes,
    write: Callable[[sa.Connection], T],
    dump: Callable[[T], bytes],
    load: Callable[[bytes], T],
) -> T:
    """Runs ``write``, or returns what it gave when ``request_id`` was first used in ``scope``.

    The result is kept in the write's own transaction, so either both are on disk or neither.

    Args:
        scope: within which ids are unique, such as a collection and a method.
        request: the whole request; the same id with another request is refused.

    Raises:
        InvalidArgumentError: the id was used for another request.
    """
    if not request_id:
        return write(connection)
    forget_old(connection)
    known = recall(connection, scope, request_id, request, load)
    if known is not None:
        return known
    result = write(connection)
    connection.execute(
        sa.insert(requests).values(
            scope=scope,
            request_id=request_id,
            request_hash=_compute_digest(request),
            result=dump(result),
            create_time_us=read_now_us(),
        )
    )
    return result


def remember(connection: sa.Connection, scope: str, request_id: str, request: bytes, result: bytes) -> None:
    """Keeps how far a request is that is done in several transactions, in place of what was kept before."""
    known = requests.c.scope == scope, requests.c.request_id == request_id
    if connection.execute(sa.update(requests).where(*known).values(result=result)).rowcount:
        return
    forget_old(connection)
    digest = _compute_digest(request)
    values = {"scope": scope, "request_id": request_id, "request_hash": digest, "result": result}
    connection.execute(sa.insert(requests).values(**values, create_time_us=read_now_us()))


def recall(
    connection: sa.Connection, scope: str, request_id: str, request: bytes, load: Callable[[bytes], T]
) -> T | None:
    """Returns what the write gave when ``request_id`` was first used.

    None if it was not. Raises as ``run_once``.
    """
    query = sa.select(requests).where(requests.c.scope == scope, requests.c.request_id == request_id)
    row = connection.execute(query).first() if request_id else None
    if row is None:
        return None
    if row.request_hash != _compute_digest(request):
        raise RequestIdReusedError("request_id", "was used before, for another request")
    return load(row.result)


def forget(connection: sa.Connection, scope: str, request_id: str) -> None:
    """Forgets a request, as if ``request_id`` had never been used."""
    connection.execute(
        sa.delete(requests).where(requests.c.scope == scope, requests.c.request_id == request_id)
    )


def _compute_digest(request: bytes) -> bytes:
    return hashlib.blake2b(request, digest_size=16).digest()


def forget_old(connection: sa.Connection) -> None:
    """Forgets old requests: a clock that jumps ahead must not let a retry double its write, so the
    folder's own clock counts."""
    remembered = connection.scalar(sa.select(marks.c.value).where(marks.c.name == MARK))
    now = min(read_now_us(), int(remembered.split(",")[1])) if remembered else read_now_us()
    connection.execute(sa.delete(requests).where(requests.c.create_time_us < now - LIFETIME_US))
