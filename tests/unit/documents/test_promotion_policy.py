"""A collection's promotion policy is kept with its settings; from before there was one, it has none."""

from pathlib import Path

import alembic.command
import alembic.config
import sqlalchemy as sa

from quarry.documents import catalog
from quarry.documents.tables import MIGRATIONS, connect_database, migrate, open_database
from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.schema import DEFAULT_SCHEMA


def test_a_policy_is_read_as_it_was_written(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "documents.db")
    settings = catalog.CollectionSettings(
        "faq", DEFAULT_SCHEMA, "none", promotion=PromotionPolicy.DESPITE_CAUTIONS
    )
    with engine.begin() as connection:
        made = catalog.create_collection(connection, settings)
        assert made.settings.promotion is PromotionPolicy.DESPITE_CAUTIONS
        described = catalog.update_collection(connection, "faq", made.revision, description="x")
        assert described.settings.promotion is PromotionPolicy.DESPITE_CAUTIONS
        without = catalog.update_collection(connection, "faq", described.revision, promotion=None)
        assert without.settings.promotion is None
    engine.dispose()


def test_collections_from_before_there_were_policies_have_none(tmp_path: Path) -> None:
    engine = connect_database(tmp_path / "documents.db")
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    text = dict.fromkeys(("encoder", "reranker", "description", "generation"), "g")
    numbers = ("last_sequence", "document_count", "revision", "create_time_us", "update_time_us")
    schema = '{"fields": [{"name": "text", "type": "text"}], "unknown_fields": "store"}'
    row = {"name": "old", "schema": schema, "passages": "{}", **text, **dict.fromkeys(numbers, "0")}
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0004")
        columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
        connection.execute(sa.text(f"INSERT INTO collections ({columns}) VALUES ({values})"), row)  # noqa: S608
    migrate(engine)
    with engine.begin() as connection:
        (old,) = catalog.list_collections(connection)
        assert old.settings.promotion is None
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "0004")
    engine.dispose()
