"""expand full snapshots"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "full_snapshots",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column(
            "attempt",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="grows each time it is begun; 0 before",
        ),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=True, comment="of the last attempt"),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "customers",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="on the topic, of the last attempt",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("full_snapshots_pkey")),
    )


def downgrade() -> None:
    op.drop_table("full_snapshots")
