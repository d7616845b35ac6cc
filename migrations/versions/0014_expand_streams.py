"""expand streams"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE posted_offsets MINVALUE 0 START 0")
    op.add_column(
        "feeds",
        sa.Column(
            "dropped",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="up to here none is kept any more",
        ),
    )


def downgrade() -> None:
    op.drop_column("feeds", "dropped")
    op.execute("DROP SEQUENCE posted_offsets")
