"""Versions of how a collection's arms are merged: their rows, and which one serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import Any

import sqlalchemy as sa

from quarry.documents import catalog
from quarry.documents.catalog import Collection, read_now_us
from quarry.documents.tables import collections
from quarry.errors import FailedPreconditionError, NotFoundError
from quarry.ranking.names import make_ranking_name, parse_ranking_name
from quarry.ranking.ranking_configuration import RankingConfiguration, ServedRanking
from quarry.registry.serving import NOTHING, Note, list_served_before, read_history, write_change
from quarry.registry.tables import promotions, ranking_versions
from quarry.registry.versions import ModelState, Place, RegisteredVersion, select_newest
from quarry.training.spec import TuningResult


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingVersion(RegisteredVersion):
    """A ranking configuration. Only whether it serves ever changes."""

    configuration: RankingConfiguration
    result: TuningResult

    @property
    def name(self) -> str:
        return make_ranking_name(self.collection, self.number)


def insert_ranking(connection: sa.Connection, key: int, result: TuningResult) -> int:
    """Makes what a tuning has found the collection's next version; returns its number."""
    assert result.configuration is not None  # noqa: S101  BAD_DATA is not registered
    v = ranking_versions.c
    last = connection.execute(sa.select(sa.func.max(v.number)).where(v.collection_id == key)).scalar()
    number = (last or 0) + 1
    connection.execute(
        sa.insert(ranking_versions).values(
            collection_id=key,
            number=number,
            configuration=result.configuration.model_dump_json(),
            result=result.model_dump_json(),
            quarry_version=installed_version("quarry-search"),
            create_time_us=read_now_us(),
        )
    )
    return number


def get_ranking(connection: sa.Connection, name: str) -> RankingVersion:
    """Raises NotFoundError."""
    parsed = parse_ranking_name(name)
    if parsed is not None:
        own = ranking_versions.c.number == parsed[1]
        row = connection.execute(_select_versions().where(collections.c.name == parsed[0], own)).first()
        if row is not None:
            return _from_row(row)
    raise NotFoundError(f"there is no ranking configuration {name[:80]!r}", ranking=name[:80])


def list_rankings(
    connection: sa.Connection, collection: str = "", below: Place | None = None, limit: int | None = None
) -> list[RankingVersion]:
    """Lists configurations, newest first, those below a place; of all collections if none is named."""
    query = select_newest(_select_versions(), ranking_versions, collection, below, limit)
    return [_from_row(row) for row in connection.execute(query)]


def read_rankings(connection: sa.Connection, key: int) -> list[RankingVersion]:
    """Reads all configurations of the collection with this key, oldest first."""
    own = ranking_versions.c.collection_id == key
    return [
        _from_row(row)
        for row in connection.execute(_select_versions().where(own).order_by(ranking_versions.c.number))
    ]


def serve_ranking(
    connection: sa.Connection, collection: Collection, name: str, note: Note, rollback: bool = False
) -> None:
    """Makes a version merge the collection's arms; an empty name: the defaults.

    One that does so already leaves everything as it is.

    Raises:
        NotFoundError: there is no such version.
        FailedPreconditionError: it is another collection's.
    """
    if name == collection.ranking_name:
        return
    served = None
    if name != NOTHING:
        version = get_ranking(connection, name)
        if version.key != collection.key:
            raise FailedPreconditionError(f"{name} was fitted to another collection", ranking=name)
        served = ServedRanking(number=version.number, configuration=version.configuration)
    catalog.set_ranking(connection, collection.key, served)
    write_change(connection, collection.key, name, collection.ranking_name, note, rollback, "ranking")


def read_earlier_ranking(connection: sa.Connection, collection: Collection) -> str:
    """Reads what merged the arms before what does now; empty: the defaults.

    Raises FailedPreconditionError if nothing did.
    """
    before: Sequence[str] = list_served_before(read_history(connection, collection.key, "ranking"))
    if not before:
        name = collection.settings.name
        raise FailedPreconditionError(
            f"no other ranking configuration served {name} before the present one", collection=name
        )
    return before[-1]


def _select_versions() -> sa.Select[Any]:
    v, c, p = ranking_versions.c, collections.c, promotions.c
    name = c.name + "/ranking@" + sa.cast(v.number, sa.Text)
    last = (
        sa.select(sa.func.max(p.id))
        .where(p.collection_id == v.collection_id, p.model == name)
        .correlate(ranking_versions, collections)
        .scalar_subquery()
    )
    return (
        sa.select(ranking_versions, c.name, c.ranking, p.time_us, p.promoted_by)
        .join_from(ranking_versions, collections, c.id == v.collection_id)
        .outerjoin(promotions, p.id == last)
    )


def _from_row(row: Any) -> RankingVersion:
    serves = row.ranking is not None and row.ranking["number"] == row.number
    return RankingVersion(
        collection=row.name,
        key=row.collection_id,
        number=row.number,
        state=ModelState.SERVING if serves else ModelState.CANDIDATE,
        configuration=RankingConfiguration.model_validate_json(row.configuration),
        result=TuningResult.model_validate_json(row.result),
        quarry_version=row.quarry_version,
        create_time_us=row.create_time_us,
        promote_time_us=row.time_us,
        promoted_by=row.promoted_by or "",
    )
