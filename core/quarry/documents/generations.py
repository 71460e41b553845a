"""Generations of a collection beside the one that serves: one in the making, and the one before."""

import dataclasses
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from quarry.documents.catalog import (
    Collection,
    PassagePolicy,
    dump_schema,
    load_schema,
    read_collection_by_key,
    read_now_us,
)
from quarry.documents.tables import collections, side_generations
from quarry.errors import FailedPreconditionError, ReindexRunningError
from quarry.schema import Schema


class Role(StrEnum):
    """The purpose of a generation. A collection has at most one of each."""

    BUILDING = "building"
    PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The settings that the indexes of a generation depend on."""

    encoder: str
    schema: Schema
    passages: PassagePolicy

    @classmethod
    def from_collection(cls, collection: Collection) -> "IndexSettings":
        settings = collection.settings
        return cls(settings.encoder, settings.schema, settings.passages)


@dataclass(frozen=True, slots=True)
class SideGeneration:
    """A generation that does not serve.

    Attributes:
        name: of the generation, and of its folder.
        key: of the collection.
        operation: name of the operation that makes it; empty for one that has served.
        paused: nobody works on it until it is resumed.
        estimate: what making it was estimated to cost, by name.
        create_time_us: when it got its role, microseconds since 1970.
    """

    name: str
    key: int
    role: Role
    settings: IndexSettings
    operation: str
    paused: bool
    estimate: dict[str, float]
    create_time_us: int

    def apply_to(self, collection: Collection) -> Collection:
        """Returns the collection as it would be with this generation."""
        index = self.settings
        settings = dataclasses.replace(
            collection.settings, encoder=index.encoder, schema=index.schema, passages=index.passages
        )
        return dataclasses.replace(collection, settings=settings, generation=self.name)


def list_generations(connection: sa.Connection, key: int | None = None) -> list[SideGeneration]:
    """Lists the generations of one collection, or of all."""
    query = sa.select(side_generations).order_by(side_generations.c.collection_id, side_generations.c.role)
    if key is not None:
        query = query.where(side_generations.c.collection_id == key)
    return [_from_row(row) for row in connection.execute(query)]


def find_generation(connection: sa.Connection, key: int, role: Role) -> SideGeneration | None:
    return next((side for side in list_generations(connection, key) if side.role is role), None)


def get_generation(connection: sa.Connection, key: int, role: Role) -> SideGeneration:
    """Raises FailedPreconditionError if the collection has none in this role, or CollectionNotFoundError."""
    if found := find_generation(connection, key, role):
        return found
    read_collection_by_key(connection, key)
    lacking = "no reindex is under way" if role is Role.BUILDING else "no previous generation is kept"
    raise FailedPreconditionError(lacking)


def begin_generation(
    connection: sa.Connection,
    key: int,
    revision: int,
    settings: IndexSettings,
    mixed_fields: frozenset[str] | None,
    operation: str,
    estimate: dict[str, float],
) -> SideGeneration:
    """Records a generation in the making.

    Args:
        revision: of the collection as it was when ``settings`` were checked against it.
        mixed_fields: as ``Collection``'s, from now on.

    Raises:
        ReindexRunningError: another one is in the making.
        FailedPreconditionError: the collection has been changed meanwhile.
    """
    current = read_collection_by_key(connection, key)
    if running := find_generation(connection, key, Role.BUILDING):
        raise ReindexRunningError(current.settings.name, running.operation)
    if current.revision != revision:
        raise FailedPreconditionError("the collection was changed while its reindex was planned: try again")
    mixed = None if mixed_fields is None else sorted(mixed_fields)
    connection.execute(sa.update(collections).where(collections.c.id == key).values(mixed_fields=mixed))
    _insert(connection, key, Role.BUILDING, uuid.uuid4().hex, settings, operation, estimate)
    return get_generation(connection, key, Role.BUILDING)


def set_paused(connection: sa.Connection, key: int, paused: bool) -> SideGeneration:
    """Raises FailedPreconditionError if nothing is in the making."""
    get_generation(connection, key, Role.BUILDING)
    table = side_generations
    here = sa.and_(table.c.collection_id == key, table.c.role == Role.BUILDING.value)
    connection.execute(sa.update(table).where(here).values(paused=paused))
    return get_generation(connection, key, Role.BUILDING)


def remove_generation(connection: sa.Connection, key: int, role: Role) -> SideGeneration:
    """Raises FailedPreconditionError if the collection has none in this role."""
    gone = get_generation(connection, key, role)
    connection.execute(sa.delete(side_generations).where(side_generations.c.name == gone.name))
    return gone


def take_over(connection: sa.Connection, key: int, role: Role) -> tuple[Collection, str]:
    """Makes the generation in this role the serving one, and the serving one the previous.

    Returns:
        The collection as it is then, and the name of the previous generation that gave way; empty if none.
    """
    old = read_collection_by_key(connection, key)
    new = remove_generation(connection, key, role)
    replaced = find_generation(connection, key, Role.PREVIOUS)
    if replaced is not None:
        remove_generation(connection, key, Role.PREVIOUS)
    _insert(connection, key, Role.PREVIOUS, old.generation, IndexSettings.from_collection(old), "", {})
    connection.execute(
        sa.update(collections)
        .where(collections.c.id == key)
        .values(
            **_make_columns(new.settings),
            generation=new.name,
            revision=old.revision + 1,
            update_time_us=read_now_us(),
        )
    )
    return read_collection_by_key(connection, key), "" if replaced is None else replaced.name


def _insert(
    connection: sa.Connection,
    key: int,
    role: Role,
    name: str,
    settings: IndexSettings,
    operation: str,
    estimate: dict[str, float],
) -> None:
    values = {
        "name": name,
        "collection_id": key,
        "role": role.value,
        "operation": operation,
        "paused": False,
        "estimate": estimate,
        "create_time_us": read_now_us(),
    }
    connection.execute(sa.insert(side_generations).values(**values, **_make_columns(settings)))


def _make_columns(settings: IndexSettings) -> dict[str, Any]:
    return {
        "encoder": settings.encoder,
        "schema": dump_schema(settings.schema),
        "passages": dataclasses.asdict(settings.passages),
    }


def _from_row(row: Any) -> SideGeneration:
    settings = IndexSettings(row.encoder, load_schema(row.schema), PassagePolicy(**row.passages))
    return SideGeneration(
        row.name,
        row.collection_id,
        Role(row.role),
        settings,
        row.operation,
        row.paused,
        row.estimate,
        row.create_time_us,
    )
