"""Ranking configurations of collections, and which one serves."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "ranking_versions",
        sa.Column("collection_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("configuration", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("quarry_version", sa.String(64), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
    )
    op.add_column("collections", sa.Column("ranking", sa.JSON(none_as_null=True)))
    op.add_column("promotions", sa.Column("what", sa.String(16), nullable=False, server_default="reranker"))


def downgrade() -> None:
    op.drop_column("promotions", "what")
    op.drop_column("collections", "ranking")
    op.drop_table("ranking_versions")
