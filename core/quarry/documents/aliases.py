"""Aliases, second names of collections, as rows.

Functions take a connection inside the caller's transaction.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from quarry.documents.tables import aliases, collections
from quarry.errors import AliasNotFoundError, AlreadyExistsError, CollectionHasAliasesError


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name of a collection.

    Attributes:
        collection: the collection's own name.
        create_time_us: microseconds since 1970, as ``update_time_us``: when it was last given to another one.
    """

    name: str
    collection: str
    create_time_us: int
    update_time_us: int


def list_aliases(
    connection: sa.Connection, after: str = "", limit: int | None = None, collection: str = ""
) -> list[Alias]:
    """Lists aliases by name, those whose name is greater than ``after``; only of ``collection``, if given."""
    query = _select().where(aliases.c.name > after).order_by(aliases.c.name).limit(limit)
    if collection:
        query = query.where(collections.c.name == collection)
    return [_from_row(row) for row in connection.execute(query)]


def find_alias(connection: sa.Connection, name: str) -> Alias | None:
    row = connection.execute(_select().where(aliases.c.name == name)).first()
    return None if row is None else _from_row(row)


def set_alias(connection: sa.Connection, name: str, key: int, now_us: int) -> tuple[Alias, str]:
    """Makes ``name`` name the collection with this key; returns it, and which collection it named before.

    Raises AlreadyExistsError if a collection is called so.
    """
    refuse_taken(connection, name)
    before = find_alias(connection, name)
    if before is None:
        row = {"name": name, "collection_id": key, "create_time_us": now_us, "update_time_us": now_us}
        connection.execute(sa.insert(aliases).values(row))
    else:
        other = sa.and_(aliases.c.name == name, aliases.c.collection_id != key)
        connection.execute(sa.update(aliases).where(other).values(collection_id=key, update_time_us=now_us))
    made = find_alias(connection, name)
    assert made is not None  # noqa: S101  it was written above
    return made, "" if before is None else before.collection


def delete_alias(connection: sa.Connection, name: str) -> None:
    """Raises AliasNotFoundError."""
    if not connection.execute(sa.delete(aliases).where(aliases.c.name == name)).rowcount:
        raise AliasNotFoundError(name)


def refuse_taken(connection: sa.Connection, name: str) -> None:
    """Raises AlreadyExistsError if a collection has this name."""
    if connection.execute(sa.select(collections.c.id).where(collections.c.name == name)).first():
        raise AlreadyExistsError(f"a collection is already called {name!r}", collection=name)


def refuse_alias(connection: sa.Connection, name: str) -> None:
    """Raises AlreadyExistsError if an alias has this name."""
    if (found := find_alias(connection, name)) is not None:
        problem = f"{name!r} is an alias of the collection {found.collection!r}"
        raise AlreadyExistsError(problem, alias=name, collection=found.collection)


def refuse_aliased(connection: sa.Connection, collection: str) -> None:
    """Raises CollectionHasAliasesError if an alias names the collection."""
    if found := list_aliases(connection, collection=collection):
        raise CollectionHasAliasesError(collection, [alias.name for alias in found])


def _select() -> sa.Select[Any]:
    columns = aliases.c.name, collections.c.name, aliases.c.create_time_us, aliases.c.update_time_us
    return sa.select(*columns).join_from(aliases, collections, aliases.c.collection_id == collections.c.id)


def _from_row(row: Any) -> Alias:
    return Alias(*row)
