"""The kind of what a promotion made serve, under the name that it has elsewhere."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("ALTER TABLE promotions RENAME COLUMN what TO kind")


def downgrade() -> None:
    op.execute("ALTER TABLE promotions RENAME COLUMN kind TO what")
