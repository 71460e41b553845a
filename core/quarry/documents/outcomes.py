"""The results of writes, as the bytes that a request id remembers."""

from collections.abc import Sequence

import orjson

from quarry.documents.log import WriteOutcome
from quarry.errors import ConflictError, DocumentNotFoundError, QuarryError
from quarry.types import Docno, Document


def dump_outcomes(outcomes: Sequence[WriteOutcome]) -> bytes:
    return orjson.dumps(
        [[o.id, o.version, None if o.error is None else [o.error.reason, str(o.error)]] for o in outcomes]
    )


def load_outcomes(data: bytes) -> list[WriteOutcome]:
    return [
        WriteOutcome(id, version, None if error is None else _make_error(id, *error))
        for id, version, error in orjson.loads(data)
    ]


def _make_error(id: str, reason: str, message: str) -> QuarryError:
    if reason == DocumentNotFoundError.reason:
        return DocumentNotFoundError(id)
    return ConflictError(message, document_id=id)


def dump_document(document: Document) -> bytes:
    return orjson.dumps(
        [document.docno, document.id, document.fields, document.version, document.update_time_us]
    )


def load_document(data: bytes) -> Document:
    docno, id, fields, version, update_time_us = orjson.loads(data)
    return Document(Docno(docno), id, fields, version, update_time_us)
