"""Names of versions, `COLLECTION@NUMBER`, and which of them a collection may serve.

Knows nothing of how versions are made, since collections are checked with it.
"""

import re

import sqlalchemy as sa

from quarry.documents.tables import collections
from quarry.errors import FailedPreconditionError, ModelNotFoundError
from quarry.registry.tables import model_versions

NAME = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})@([1-9][0-9]{0,8})")


def make_version_name(collection: str, number: int) -> str:
    return f"{collection}@{number}"


def parse_name(name: str) -> tuple[str, int] | None:
    """Parses a name to collection and number; None for what is no version's name."""
    found = NAME.fullmatch(name)
    return None if found is None else (found[1], int(found[2]))


def check_usable(connection: sa.Connection, key: int, name: str, kind: str) -> None:
    """Checks that the collection with this key may serve the version ``name`` as a ``reranker`` or
    ``encoder``.

    Raises:
        ModelNotFoundError: there is none of this name.
        FailedPreconditionError: it is another collection's, retired, or of another kind.
    """
    parsed = parse_name(name)
    if parsed is None:
        raise ModelNotFoundError(name)
    v, c = model_versions.c, collections.c
    query = sa.select(model_versions).join_from(model_versions, collections, c.id == v.collection_id)
    row = connection.execute(query.where(c.name == parsed[0], v.number == parsed[1])).first()
    if row is None:
        raise ModelNotFoundError(name)
    if row.collection_id != key:
        raise FailedPreconditionError(f"{name} is a model of another collection: import it first", model=name)
    if row.retire_time_us is not None:
        raise FailedPreconditionError(f"{name} is retired: its files are gone", model=name)
    if row.kind == "encoder" != kind:
        raise FailedPreconditionError(
            f"{name} is an encoder, and every document must be encoded anew with it: "
            f"`quarry collection reindex {parsed[0]} --encoder {name}`",
            model=name,
        )
    if row.kind != kind:
        raise FailedPreconditionError(f"{name} is a {row.kind}, and no {kind}", model=name)
