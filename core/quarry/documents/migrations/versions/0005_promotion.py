"""Who promotes a collection's better re-rankers, where it is not as the server has it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("collections", sa.Column("promotion", sa.String(32)))


def downgrade() -> None:
    op.drop_column("collections", "promotion")
