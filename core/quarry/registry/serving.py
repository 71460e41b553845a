"""The history of promotions: which model serves a collection, and which did before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from quarry.documents import catalog
from quarry.documents.catalog import Collection, read_now_us
from quarry.documents.tables import collections
from quarry.errors import FailedPreconditionError, NotFoundError, UnprovenRerankerError
from quarry.registry.names import check_usable, parse_name
from quarry.registry.tables import model_versions, promotions

PromotedKind = Literal["reranker", "ranking"]
NOTHING = ""
"""In place of a model's name: no re-ranker."""
PROVEN = "IMPROVED"


@dataclass(frozen=True, slots=True)
class Note:
    """The author of a change of what serves, and the reason; for the history.

    Attributes:
        by: as the caller said, or ``policy``.
    """

    by: str = ""
    reason: str = ""


def serve_reranker(
    connection: sa.Connection, collection: Collection, model: str, note: Note, rollback: bool = False
) -> None:
    """Makes ``model`` the collection's re-ranker. One that is it already leaves everything as it is.

    Raises FailedPreconditionError or ModelNotFoundError if it is a version that must not serve.
    """
    updated = collection
    if model != collection.settings.reranker:
        updated = catalog.update_collection(connection, collection.settings.name, None, reranker=model)
    note_change(connection, collection, updated, note, rollback)


def note_change(
    connection: sa.Connection, before: Collection, after: Collection, note: Note, rollback: bool = False
) -> None:
    """Writes into the history that the collection's re-ranker changed, if it did. Raises as ``check_own``."""
    check_own(connection, after)
    if after.settings.reranker == before.settings.reranker:
        return
    write_change(connection, after.key, after.settings.reranker, before.settings.reranker, note, rollback)


def write_change(
    connection: sa.Connection,
    key: int,
    now: str,
    before: str,
    note: Note,
    rollback: bool,
    kind: PromotedKind = "reranker",
) -> None:
    """Writes into the history what serves ``now`` and what did ``before``."""
    connection.execute(
        sa.insert(promotions).values(
            collection_id=key,
            model=now,
            previous=before,
            rollback=rollback,
            promoted_by=note.by,
            reason=note.reason,
            time_us=read_now_us(),
            kind=kind,
        )
    )


def check_own(connection: sa.Connection, collection: Collection) -> None:
    """Raises as ``check_usable`` if one of the collection's models is a version that must not serve it."""
    settings = collection.settings
    for name in sorted(settings.rerankers):
        if parse_name(name):
            check_usable(connection, collection.key, name, "reranker")
    if parse_name(settings.encoder):
        check_usable(connection, collection.key, settings.encoder, "encoder")


def check_proven(connection: sa.Connection, before: Collection, after: Collection) -> None:
    """Raises UnprovenRerankerError if ``after`` has a model to re-rank, in whichever stage, that ``before``
    has not, without the verdict IMPROVED. To have none is proven."""
    new = after.settings.rerankers - before.settings.rerankers
    if after.settings.reranker != before.settings.reranker:
        new |= {after.settings.reranker} - {NOTHING}
    for model in sorted(new):
        verdict = _read_verdict(connection, model)
        if verdict != PROVEN:
            raise UnprovenRerankerError(after.settings.name, model, verdict)


def is_unproven(connection: sa.Connection, collection: Collection) -> bool:
    """Tells whether a model that re-ranks the collection, in whichever stage, is without the verdict
    IMPROVED."""
    return any(_read_verdict(connection, model) != PROVEN for model in collection.settings.rerankers)


def find_earlier_reranker(connection: sa.Connection, collection: Collection) -> str | None:
    """Finds what served before what serves now and may serve again; None if nothing did."""
    now = collection.settings.reranker
    below = list_served_before(read_history(connection, collection.key))
    return next((m for m in reversed(below) if m != now and _may_serve(connection, collection, m)), None)


def read_history(connection: sa.Connection, key: int, kind: PromotedKind = "reranker") -> Sequence[Any]:
    """Reads rows of the collection's promotions, oldest first."""
    own = sa.and_(promotions.c.collection_id == key, promotions.c.kind == kind)
    query = sa.select(promotions).where(own).order_by(promotions.c.id)
    return connection.execute(query).all()


def list_served_before(rows: Sequence[Any]) -> list[str]:
    """Lists what to go back to from what serves now, the last one first to go back to.

    A promotion lays a model on a stack, a rollback takes off what lies above the model that it went back to.
    """
    stack = [rows[0].previous] if rows else []
    for row in rows:
        if not row.rollback:
            stack.append(row.model)
            continue
        stack.pop()
        while stack and stack[-1] != row.model:
            stack.pop()
    return stack[:-1]


def refuse_rollback(collection: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"no other re-ranker served {collection} before the present one", collection=collection
    )


def _read_verdict(connection: sa.Connection, model: str) -> str:
    """Reads the verdict of a version; empty where there is none, as of a package."""
    parsed = parse_name(model)
    if parsed is None:
        return ""
    v, c = model_versions.c, collections.c
    verdict = sa.func.json_extract(v.result, "$.evaluation.verdict")
    query = sa.select(verdict).join_from(model_versions, collections, c.id == v.collection_id)
    return connection.execute(query.where(c.name == parsed[0], v.number == parsed[1])).scalar() or ""


def _may_serve(connection: sa.Connection, collection: Collection, model: str) -> bool:
    if not parse_name(model):
        return True
    try:
        check_usable(connection, collection.key, model, "reranker")
    except (NotFoundError, FailedPreconditionError):
        return False
    return True
