"""Registered versions of models: what each is, and their rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from quarry.documents.catalog import load_cascade, read_now_us
from quarry.documents.tables import collections, deleted_collections
from quarry.errors import FailedPreconditionError, ModelNotFoundError
from quarry.models.blend import Blend
from quarry.models.calibration import Calibration
from quarry.registry.names import make_version_name, parse_name
from quarry.registry.tables import model_versions, promotions, ranking_versions
from quarry.training.spec import KindName, TrainingResult

Place = tuple[int, int, int]
"""Of a version in lists: create time, key, number. Descending is newest first."""


class ModelState(StrEnum):
    CANDIDATE = "candidate"
    SERVING = "serving"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVersion:
    """A version as it is now, of whatever serves a collection.

    Attributes:
        collection: name, and ``key`` its number in the log.
        number: from 1, counted for each key, never reused.
        quarry_version: of the server that registered it first.
        promote_time_us: of the last promotion; None if there was none.
    """

    collection: str
    key: int
    number: int
    state: ModelState
    quarry_version: str
    create_time_us: int
    promote_time_us: int | None
    promoted_by: str

    @property
    def place(self) -> Place:
        return self.create_time_us, self.key, self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(RegisteredVersion):
    """A model's version. Only whether it serves or is retired ever changes.

    Attributes:
        source: what it came from, for people: a training, an archive, a model's name.
        calibration: how its blended scores become probabilities; None: it has none.
        result: of the training that made it; None if it was made elsewhere and says nothing.
        artefact_hash: hex SHA-256 of names and hashes of the model's files.
        artefact_bytes: size of those files.
    """

    kind: KindName
    source: str
    result: TrainingResult | None
    blend: Blend
    calibration: Calibration | None
    artefact_hash: str
    artefact_bytes: int
    description: str

    @property
    def name(self) -> str:
        return make_version_name(self.collection, self.number)


@dataclass(frozen=True, slots=True)
class NewVersion:
    """The description of a version that is being registered; attributes as ModelVersion's."""

    kind: KindName
    source: str
    result: TrainingResult | None
    blend: Blend
    calibration: Calibration | None
    artefact_hash: str
    artefact_bytes: int
    description: str
    quarry_version: str


def get_version(connection: sa.Connection, name: str) -> ModelVersion:
    """Raises ModelNotFoundError."""
    parsed = parse_name(name)
    if parsed is None:
        raise ModelNotFoundError(name)
    collection, number = parsed
    wanted = sa.and_(collections.c.name == collection, model_versions.c.number == number)
    row = connection.execute(_select_versions().where(wanted)).first()
    if row is None:
        raise ModelNotFoundError(name)
    return _from_row(row)


def list_versions(
    connection: sa.Connection, collection: str = "", below: Place | None = None, limit: int | None = None
) -> list[ModelVersion]:
    """Lists versions, newest first, those below a place; of all collections if none is named."""
    query = select_newest(_select_versions(), model_versions, collection, below, limit)
    return [_from_row(row) for row in connection.execute(query)]


def select_newest(
    versions: sa.Select[Any], table: sa.Table, collection: str, below: Place | None, limit: int | None
) -> sa.Select[Any]:
    """Selects from ``versions``, whose rows are in ``table``: newest first, those below a place, of one
    collection if one is named."""
    place = (table.c.create_time_us, table.c.collection_id, table.c.number)
    query = versions.order_by(*(column.desc() for column in place))
    if collection:
        query = query.where(collections.c.name == collection)
    if below is not None:
        query = query.where(sa.tuple_(*place) < sa.tuple_(*map(sa.literal, below)))
    return query.limit(limit)


def find_next_number(connection: sa.Connection, key: int) -> int:
    last = sa.select(sa.func.max(model_versions.c.number)).where(model_versions.c.collection_id == key)
    return (connection.execute(last).scalar() or 0) + 1


def insert_version(connection: sa.Connection, key: int, number: int, new: NewVersion) -> None:
    connection.execute(
        sa.insert(model_versions).values(
            collection_id=key,
            number=number,
            kind=new.kind,
            source=new.source,
            result=None if new.result is None else new.result.model_dump_json(),
            blend=new.blend.model_dump_json(),
            calibration=None if new.calibration is None else new.calibration.model_dump_json(),
            artefact_hash=new.artefact_hash,
            artefact_bytes=new.artefact_bytes,
            description=new.description,
            quarry_version=new.quarry_version,
            create_time_us=read_now_us(),
        )
    )


def retire_version(connection: sa.Connection, name: str) -> ModelVersion:
    """Marks it; one that is retired stays so. Raises FailedPreconditionError while it serves."""
    version = get_version(connection, name)
    if version.state is ModelState.SERVING:
        raise FailedPreconditionError(
            f"{name} serves: promote another version, roll back, or take it out of the cascade, and then "
            "retire it",
            model=name,
        )
    if version.state is ModelState.CANDIDATE:
        c = model_versions.c
        connection.execute(
            sa.update(model_versions)
            .where(c.collection_id == version.key, c.number == version.number)
            .values(retire_time_us=read_now_us())
        )
    return get_version(connection, name)


def remove_versions(connection: sa.Connection, key: int) -> None:
    """Removes the rows of a collection that is gone."""
    for table in (model_versions, ranking_versions, promotions):
        connection.execute(sa.delete(table).where(table.c.collection_id == key))


def read_states_by_place(connection: sa.Connection) -> dict[tuple[int, int], ModelState]:
    """Reads the state of every version, by its collection's key and its number."""
    return {(version.key, version.number): version.state for version in list_versions(connection)}


def find_deleted_keys_with_rows(connection: sa.Connection) -> Sequence[int]:
    """Finds the deleted collections whose versions, or promotions, still have rows."""
    deleted = sa.select(deleted_collections.c.key)
    found: set[int] = set()
    for table in (model_versions, ranking_versions, promotions):
        query = sa.select(table.c.collection_id).where(table.c.collection_id.in_(deleted)).distinct()
        found.update(connection.execute(query).scalars())
    return sorted(found)


def _select_versions() -> sa.Select[Any]:
    """Selects versions with what their collections serve, and their last promotions."""
    v, c, p = model_versions.c, collections.c, promotions.c
    name = c.name + "@" + sa.cast(v.number, sa.Text)
    last = (
        sa.select(sa.func.max(p.id))
        .where(p.collection_id == v.collection_id, p.model == name)
        .correlate(model_versions, collections)
        .scalar_subquery()
    )
    return (
        sa.select(model_versions, c.name, c.reranker, c.encoder, c.cascade, p.time_us, p.promoted_by)
        .join_from(model_versions, collections, c.id == v.collection_id)
        .outerjoin(promotions, p.id == last)
    )


def _from_row(row: Any) -> ModelVersion:
    name = make_version_name(row.name, row.number)
    cascade = {stage.model for stage in load_cascade(row.cascade)}
    serves = name in {row.reranker, row.encoder} | cascade
    retired = row.retire_time_us is not None
    return ModelVersion(
        collection=row.name,
        key=row.collection_id,
        number=row.number,
        kind=row.kind,
        state=ModelState.RETIRED if retired else ModelState.SERVING if serves else ModelState.CANDIDATE,
        source=row.source,
        result=None if row.result is None else TrainingResult.model_validate_json(row.result),
        blend=Blend.model_validate_json(row.blend),
        calibration=None if row.calibration is None else Calibration.model_validate_json(row.calibration),
        artefact_hash=row.artefact_hash,
        artefact_bytes=row.artefact_bytes,
        description=row.description,
        quarry_version=row.quarry_version,
        create_time_us=row.create_time_us,
        promote_time_us=row.time_us,
        promoted_by=row.promoted_by or "",
    )
