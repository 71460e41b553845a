"""Synonyms and stop words of collections."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("collections", sa.Column("vocabulary", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    op.drop_column("collections", "vocabulary")
