"""How a version's scores become probabilities of relevance."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("calibration", sa.Text))


def downgrade() -> None:
    op.drop_column("model_versions", "calibration")
