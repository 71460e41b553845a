"""A collection's cascade is kept with its settings, and collections made before there were any have none."""

from collections.abc import Iterator
from pathlib import Path

import alembic.command
import alembic.config
import pytest
import sqlalchemy as sa
from tests.unit.documents.database import new_database

from quarry.documents import catalog
from quarry.documents.tables import MIGRATIONS, connect_database, migrate
from quarry.errors import InvalidArgumentError
from quarry.ranking.cascade import OWN, Cascade, RerankStage
from quarry.schema import DEFAULT_SCHEMA

CASCADE = (RerankStage("small", 200), RerankStage(OWN, 20))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with new_database(tmp_path / "documents.db") as engine:
        yield engine


def settings(cascade: Cascade) -> catalog.CollectionSettings:
    return catalog.CollectionSettings("faq", DEFAULT_SCHEMA, "none", "large", cascade=cascade)


def test_a_cascade_is_read_as_it_was_written(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        made = catalog.create_collection(connection, settings(CASCADE))
        assert made.settings.cascade == CASCADE
        assert made.settings.rerankers == {"small", "large"}
        renamed = catalog.update_collection(connection, "faq", None, reranker="larger")
        assert renamed.settings.cascade == CASCADE
        without = catalog.update_collection(connection, "faq", renamed.revision, cascade=())
        assert (without.settings.cascade, without.settings.rerankers) == ((), {"larger"})


def test_a_cascade_that_is_wrong_changes_nothing(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        made = catalog.create_collection(connection, settings(CASCADE))
        with pytest.raises(InvalidArgumentError, match=r"cascade\[1\]\.depth"):
            catalog.update_collection(
                connection, "faq", None, cascade=(RerankStage("small", 9), RerankStage(OWN, 10))
            )
        assert catalog.get_collection(connection, "faq") == made


def test_collections_from_before_there_were_cascades_have_none(tmp_path: Path) -> None:
    engine = connect_database(tmp_path / "documents.db")
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0003")
        row = {"schema": '{"fields": [{"name": "text", "type": "text"}], "unknown_fields": "store"}'}
        row |= {"name": "old", "passages": "{}", "encoder": "none", "reranker": "large", "generation": "g"}
        row |= dict.fromkeys(("description", "create_time_us", "update_time_us"), "0")
        row |= dict.fromkeys(("last_sequence", "document_count", "revision"), "0")
        columns = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(sa.text(f"INSERT INTO collections ({columns}) VALUES ({values})"), row)  # noqa: S608
    migrate(engine)
    with engine.begin() as connection:
        (old,) = catalog.list_collections(connection)
    engine.dispose()
    assert (old.settings.reranker, old.settings.cascade) == ("large", ())
