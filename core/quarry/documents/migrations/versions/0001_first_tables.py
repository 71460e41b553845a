"""Collections, documents and remembered requests."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "collections",
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
        sqlite_autoincrement=True,
    )
    op.create_table(
        "documents",
        sa.Column("docno", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("collection_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Text(collation="BINARY"), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("fields", sa.LargeBinary),
        sa.Column("update_time_us", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("collection_id", "id"),
        sqlite_autoincrement=True,
    )
    op.create_index("documents_by_version", "documents", ["collection_id", "version"])
    op.create_table(
        "requests",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("request_hash", sa.LargeBinary, nullable=False),
        sa.Column("result", sa.LargeBinary, nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_requests_create_time_us", "requests", ["create_time_us"])
    op.create_table(
        "operations",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("metadata", sa.LargeBinary, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("response", sa.LargeBinary),
        sa.Column("error", sa.LargeBinary),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("operations", "requests", "documents", "collections"):
        op.drop_table(table)
