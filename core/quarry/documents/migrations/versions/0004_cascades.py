"""The re-rankers that read before or after a collection's own."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("collections", sa.Column("cascade", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("collections", "cascade")
