"""What the database says about itself, and which collections were deleted on purpose."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "marks", sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
    )
    op.create_table(
        "deleted_collections",
        sa.Column("key", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("delete_time_us", sa.BigInteger, nullable=False),
    )
    # Until now a key that was given out and has no row belonged to a deleted collection.
    op.execute(
        """
        WITH RECURSIVE given(key) AS (
            SELECT 1 FROM sqlite_sequence WHERE name = 'collections' AND seq >= 1
            UNION ALL
            SELECT key + 1 FROM given
            WHERE key < (SELECT seq FROM sqlite_sequence WHERE name = 'collections')
        )
        INSERT INTO deleted_collections (key, name, delete_time_us)
        SELECT key, '', 0 FROM given WHERE key NOT IN (SELECT id FROM collections)
        """
    )


def downgrade() -> None:
    op.drop_table("deleted_collections")
    op.drop_table("marks")
