"""Generations beside the serving one, and the fields of which the log holds values of several schemas."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "side_generations",
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
    op.add_column("collections", sa.Column("mixed_fields", sa.JSON))


def downgrade() -> None:
    op.drop_column("collections", "mixed_fields")
    op.drop_table("side_generations")
