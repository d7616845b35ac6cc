"""contract drop event fingerprint

Whether two messages have the same content is found from their bytes, when it is asked: hardly ever.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("events", "fingerprint")


def downgrade() -> None:
    op.add_column(
        "events", sa.Column("fingerprint", sa.LargeBinary(), nullable=True, comment="equal for equal content")
    )
