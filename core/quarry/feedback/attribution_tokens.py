"""Attribution tokens: which answer an event is about, signed, so that nobody can make one up.

A token names a search, a page and a collection; it holds no text and no user. Its key is one of a row of
keys, each signing for some days; an old one is accepted until what it signed is past retention.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import sqlalchemy as sa

from quarry.documents.catalog import read_now_us
from quarry.feedback.tables import signing_keys

MAX_TOKEN_BYTES = 512
MAX_SEARCH_ID_BYTES = 128
SIGNATURE_BYTES = 16
DAY_US = 24 * 3_600 * 1_000_000
_VERSION = 1
_HEAD = struct.Struct(">BIIIQ8sB")


class TokenError(ValueError):
    """The reason for which a token is refused."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """The content of a token.

    Attributes:
        offset: hits on the pages before.
        collection: its key.
        configuration: hash of the ranking, 16 hexadecimal digits; empty for none.
        digest: of the page's document ids, 8 bytes.
    """

    search_id: str
    offset: int
    collection: int
    configuration: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and when it was made, microseconds since 1970."""

    id: int
    secret: bytes
    create_time_us: int


class TokenSigner:
    """Signs with the newest key, accepts all that are given. Keys come oldest first, at least one."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self.use(keys)

    def use(self, keys: Sequence[SigningKey]) -> None:
        """Takes other keys."""
        if not keys:
            raise ValueError("there is no key to sign with")
        self._newest, self._oldest_id = keys[-1], keys[0].id
        self._secrets = {key.id: key.secret for key in keys}

    def sign(self, attribution: Attribution) -> str:
        body = _HEAD.pack(
            _VERSION,
            self._newest.id,
            attribution.collection,
            attribution.offset,
            int(attribution.configuration or "0", 16),
            attribution.digest,
            len(attribution.search_id.encode()),
        )
        body += attribution.search_id.encode()
        return base64.urlsafe_b64encode(body + _sign(self._newest.secret, body)).decode().rstrip("=")

    def read(self, token: str) -> Attribution:
        """Raises TokenError unless one of the keys has signed exactly these characters."""
        body, signature = _split_parts(token)
        _, key_id, collection, offset, configuration, digest, _ = _HEAD.unpack_from(body)
        secret = self._secrets.get(key_id)
        if secret is None:
            expired = 0 < key_id < self._oldest_id
            raise TokenError("has expired" if expired else "is not one that this server gave")
        if not hmac.compare_digest(signature, _sign(secret, body)):
            raise TokenError("is not one that this server gave")
        search_id = body[_HEAD.size :].decode()
        text = f"{configuration:016x}" if configuration else ""
        return Attribution(search_id, offset, collection, text, digest)


def compute_page_digest(document_ids: Iterable[str]) -> bytes:
    """Computes 8 bytes that stand for the documents of a page, in their order."""
    digest = hashlib.blake2b(digest_size=8)
    for id in document_ids:
        digest.update(id.encode("utf-8", "surrogatepass") + b"\0")
    return digest.digest()


def rotate_keys(
    connection: sa.Connection, rotation_us: int, retention_us: int, now: int | None = None
) -> list[SigningKey]:
    """Rotates the keys to use, oldest first: adds a new one if it is time, drops those that have nothing left
    to accept.

    A key signs until the next one is made, and is accepted for ``retention_us`` after that.
    """
    now = read_now_us() if now is None else now
    query = sa.select(signing_keys).order_by(signing_keys.c.id)
    keys = [SigningKey(row.id, row.secret, row.create_time_us) for row in connection.execute(query)]
    if not keys or keys[-1].create_time_us <= now - rotation_us:
        secret = secrets.token_bytes(32)
        made = connection.execute(sa.insert(signing_keys).values(secret=secret, create_time_us=now))
        (id,) = made.inserted_primary_key or (0,)
        keys.append(SigningKey(int(id), secret, now))
    ended = {old.id for old, new in pairwise(keys) if new.create_time_us <= now - retention_us}
    if ended:
        connection.execute(sa.delete(signing_keys).where(signing_keys.c.id.in_(ended)))
    return [key for key in keys if key.id not in ended]


def _sign(secret: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, body, "sha256")[:SIGNATURE_BYTES]


def _split_parts(token: str) -> tuple[bytes, bytes]:
    """Splits body and signature of what is shaped like a token."""
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenError(f"has over {MAX_TOKEN_BYTES} bytes")
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise TokenError("is not one that this server gave") from None
    body, signature = raw[:-SIGNATURE_BYTES], raw[-SIGNATURE_BYTES:]
    again = base64.urlsafe_b64encode(raw).decode().rstrip("=")  # base64 has several ways to write the same
    if len(body) < _HEAD.size or body[0] != _VERSION or again != token:
        raise TokenError("is not one that this server gave")
    if len(body) != _HEAD.size + body[_HEAD.size - 1]:
        raise TokenError("is not one that this server gave")
    return body, signature
