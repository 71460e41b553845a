"""Aliases as rows: one collection each, no name twice, and no collection goes under one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.unit.documents.database import new_collection, new_database

from quarry.documents import aliases, catalog
from quarry.documents.aliases import Alias
from quarry.documents.tables import connect_database, open_database
from quarry.errors import AliasNotFoundError, AlreadyExistsError, CollectionHasAliasesError


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with new_database(tmp_path / "documents.db") as engine:
        yield engine


def test_an_alias_is_given_from_one_collection_to_another(engine: sa.Engine) -> None:
    first, second = new_collection(engine, "first"), new_collection(engine, "second")
    with engine.begin() as connection:
        assert aliases.set_alias(connection, "shop", first, 5) == (Alias("shop", "first", 5, 5), "")
        assert aliases.set_alias(connection, "shop", first, 6) == (Alias("shop", "first", 5, 5), "first")
        assert aliases.set_alias(connection, "shop", second, 7) == (Alias("shop", "second", 5, 7), "first")
        assert aliases.find_alias(connection, "shop") == Alias("shop", "second", 5, 7)
        assert aliases.find_alias(connection, "first") is None


def test_aliases_are_listed_by_name_in_pages_and_of_a_collection(engine: sa.Engine) -> None:
    first, second = new_collection(engine, "first"), new_collection(engine, "second")
    with engine.begin() as connection:
        for name, key in (("c", first), ("a", second), ("b", first)):
            aliases.set_alias(connection, name, key, 1)
        assert [alias.name for alias in aliases.list_aliases(connection)] == ["a", "b", "c"]
        assert [alias.name for alias in aliases.list_aliases(connection, "a", 1)] == ["b"]
        assert [alias.name for alias in aliases.list_aliases(connection, collection="first")] == ["b", "c"]


def test_a_name_is_a_collections_or_an_aliass(engine: sa.Engine) -> None:
    first = new_collection(engine, "first")
    with engine.begin() as connection:
        aliases.set_alias(connection, "shop", first, 1)
    with pytest.raises(AlreadyExistsError, match="'shop' is an alias of the collection 'first'"):
        new_collection(engine, "shop")
    with engine.begin() as connection, pytest.raises(AlreadyExistsError, match="already called 'first'"):
        aliases.set_alias(connection, "first", first, 1)


def test_a_collection_stays_until_no_alias_names_it(engine: sa.Engine) -> None:
    first = new_collection(engine, "first")
    with engine.begin() as connection:
        for number in range(30):
            aliases.set_alias(connection, f"shop{number:02}", first, 1)
        with pytest.raises(CollectionHasAliasesError, match=r"shop00, shop01.*, \.\.\."):
            catalog.delete_collection(connection, "first", None)
        for number in range(30):
            aliases.delete_alias(connection, f"shop{number:02}")
        catalog.delete_collection(connection, "first", None)


def test_what_is_no_alias_cannot_be_deleted_as_one(engine: sa.Engine) -> None:
    new_collection(engine, "first")
    with engine.begin() as connection:
        for name in ("first", "none"):
            with pytest.raises(AliasNotFoundError):
                aliases.delete_alias(connection, name)


def test_a_database_of_before_has_none(tmp_path: Path) -> None:
    path = tmp_path / "documents.db"
    open_database(path).dispose()
    old = connect_database(path)
    with old.begin() as connection:
        connection.execute(sa.text("DROP INDEX documents_deleted"))
        connection.execute(sa.text("DROP TABLE aliases"))
        connection.execute(sa.text("ALTER TABLE collections DROP COLUMN vocabulary"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0009'"))
    old.dispose()
    with new_database(path) as engine, engine.begin() as connection:
        assert aliases.list_aliases(connection) == []
