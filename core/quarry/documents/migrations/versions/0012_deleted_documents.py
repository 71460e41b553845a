"""The deleted documents in the order of their deletion: erasing looks for the first one."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_index(
        "documents_deleted", "documents", ["collection_id", "version"], sqlite_where=sa.text("deleted IS 1")
    )


def downgrade() -> None:
    op.drop_index("documents_deleted", "documents")
