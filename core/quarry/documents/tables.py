"""The tables of the document log, and the one way to open them.

SQLite in WAL mode, synced at every commit, is the embedded default; nothing here but
``connect_database`` knows that. Migrations run on opening.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import sqlalchemy as sa

from quarry.errors import DataLossError
from quarry.storage.sync import sync_path

UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=30000",
    "cache_size=-65536",
    "secure_delete=ON",
)

metadata = sa.MetaData()

collections = sa.Table(
    "collections",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("schema", sa.JSON, nullable=False),
    sa.Column("passages", sa.JSON, nullable=False),
    sa.Column("encoder", sa.Text, nullable=False),
    sa.Column("reranker", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("generation", sa.String(32), nullable=False),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    sa.Column("document_count", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.Column("update_time_us", sa.BigInteger, nullable=False),
    sa.Column("mixed_fields", sa.JSON(none_as_null=True)),
    sa.Column("cascade", sa.JSON, nullable=False, server_default="[]"),
    sa.Column("promotion", sa.String(32)),
    sa.Column("ranking", sa.JSON(none_as_null=True)),
    sa.Column("vocabulary", sa.JSON(none_as_null=True)),
    sqlite_autoincrement=True,
)

aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("collection_id", sa.Integer, nullable=False, index=True),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.Column("update_time_us", sa.BigInteger, nullable=False),
)

side_generations = sa.Table(
    "side_generations",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("collection_id", sa.Integer, nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("schema", sa.JSON, nullable=False),
    sa.Column("passages", sa.JSON, nullable=False),
    sa.Column("encoder", sa.Text, nullable=False),
    sa.Column("operation", sa.String(64), nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("estimate", sa.JSON, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("collection_id", "role"),
)

documents = sa.Table(
    "documents",
    metadata,
    # BigInteger is not an alias of SQLite's rowid, and only that counts up by itself.
    sa.Column("docno", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("collection_id", sa.Integer, nullable=False),
    sa.Column("id", sa.Text(collation="BINARY"), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("fields", sa.LargeBinary),
    sa.Column("update_time_us", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("collection_id", "id"),
    sa.Index("documents_by_version", "collection_id", "version"),
    sa.Index("documents_deleted", "collection_id", "version", sqlite_where=sa.text("deleted IS 1")),
    sqlite_autoincrement=True,
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("request_hash", sa.LargeBinary, nullable=False),
    sa.Column("result", sa.LargeBinary, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False, index=True),
)

marks = sa.Table(
    "marks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

deleted_collections = sa.Table(
    "deleted_collections",
    metadata,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("delete_time_us", sa.BigInteger, nullable=False),
)

operations = sa.Table(
    "operations",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("metadata", sa.LargeBinary, nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),
    sa.Column("response", sa.LargeBinary),
    sa.Column("error", sa.LargeBinary),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
)


MIGRATIONS = Path(__file__).parent / "migrations"
_UNFINISHED = ".new"


def open_database(path: Path, migrations: Path = MIGRATIONS, pragmas: Sequence[str] = ()) -> sa.Engine:
    """Opens the database at ``path``, which is created or migrated to this version's tables.

    A database appears under its name with all of its tables. So an empty file was not made here: it has lost
    what it held.

    Args:
        migrations: folder of the tables' own migrations; those of the document log are the default.
        pragmas: of SQLite, for each connection, beside and over the usual ones.

    Raises:
        DataLossError: the file is no sound database, or holds no table.
    """
    if not path.exists():
        _create(path, migrations, pragmas)
    engine = connect_database(path, pragmas)
    try:
        if not sa.inspect(engine).get_table_names():
            raise DataLossError(f"{path} holds no table: restore it from a backup")
        migrate(engine, migrations)
    except sa.exc.DatabaseError as error:
        engine.dispose()
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF not in UNREADABLE:
            raise
        raise DataLossError(f"{path} cannot be read ({error.orig}): restore it from a backup") from error
    except DataLossError:
        engine.dispose()
        raise
    return engine


def _create(path: Path, migrations: Path, pragmas: Sequence[str]) -> None:
    """Makes the database beside its place, and renames it when it is on the disk."""
    unfinished = path.with_name(path.name + _UNFINISHED)
    for left in path.parent.glob(f"{unfinished.name}*"):
        left.unlink()
    unfinished.touch(mode=0o600)
    engine = connect_database(unfinished, pragmas)
    migrate(engine, migrations)
    engine.dispose()
    unfinished.replace(path)
    sync_path(path.parent)


def connect_database(path: Path, pragmas: Sequence[str] = (), read_only: bool = False) -> sa.Engine:
    """Connects to the database at ``path`` as it is.

    Args:
        read_only: for other processes than the server: they never fold the write-ahead log into the file, not
            even if theirs is the last connection that ends.
    """
    database = f"{path.resolve().as_uri()}?mode=ro&uri=true" if read_only else str(path)
    engine = sa.create_engine(f"sqlite:///{database}", pool_size=16, max_overflow=16)

    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late for DDL and for reads
        for pragma in (*_PRAGMAS, *pragmas):
            connection.execute(f"PRAGMA {pragma}").close()

    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def migrate(engine: sa.Engine, migrations: Path = MIGRATIONS) -> None:
    """Runs the migrations that the database has not seen."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(migrations))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
