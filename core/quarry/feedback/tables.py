"""The tables of the feedback log, and how to open them: one file beside the document log.

Deleted rows are overwritten (``secure_delete``), so that a purge leaves nothing behind in free pages.
"""

from pathlib import Path

import sqlalchemy as sa

from quarry.documents.tables import connect_database, open_database

FILE_NAME = "feedback.db"
_MIGRATIONS = Path(__file__).parent / "migrations"
_PRAGMAS = ("secure_delete=ON", "cache_size=-16384")

metadata = sa.MetaData()

impressions = sa.Table(
    "impressions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("collection_id", sa.Integer, nullable=False),
    sa.Column("search_id", sa.Text, nullable=False),
    sa.Column("page_offset", sa.Integer, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("received_us", sa.BigInteger, nullable=False),
    sa.Column("query", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("hits", sa.Integer, nullable=False),
    sa.Column("details", sa.LargeBinary, nullable=False),
    sa.Column("shown", sa.LargeBinary, nullable=False),
    sa.Column("pool", sa.LargeBinary),
    sa.Column("trial", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("collection_id", "search_id", "page_offset"),
    sa.Index("impressions_by_time", "collection_id", "time_us"),
    sqlite_autoincrement=True,
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("collection_id", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("search_id", sa.Text, nullable=False),
    sa.Column("page_offset", sa.Integer, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("received_us", sa.BigInteger, nullable=False),
    sa.Column("document_id", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("details", sa.LargeBinary),
    sa.UniqueConstraint("collection_id", "event_id"),
    sa.Index("events_by_search", "collection_id", "search_id", "page_offset"),
)

texts = sa.Table(
    "texts",
    metadata,
    sa.Column("content", sa.LargeBinary, primary_key=True),
    sa.Column("collection_id", sa.Integer, primary_key=True),
    sa.Column("text", sa.LargeBinary, nullable=False),
)

marks = sa.Table(
    "marks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)


def open_feedback(path: Path) -> sa.Engine:
    """Opens the feedback log at ``path``, created or migrated. Raises as ``open_database``."""
    return open_database(path, _MIGRATIONS, _PRAGMAS)


def read_feedback(path: Path) -> sa.Engine:
    """Reads the feedback log at ``path``, which a server may be writing, for reading alone.

    Raises:
        FileNotFoundError: there is none.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    return connect_database(path, _PRAGMAS, read_only=True)
