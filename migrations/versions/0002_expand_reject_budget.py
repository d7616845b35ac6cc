"""expand reject budget"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column(
            "recent_messages",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="remembered by the reject budget",
        ),
        sa.Column(
            "recent_rejects",
            sa.LargeBinary(),
            server_default="",
            nullable=False,
            comment="a bit for each, latest lowest",
        ),
        sa.Column(
            "reject_run", sa.Integer(), server_default="0", nullable=False, comment="the last so many were rejected"
        ),
        sa.Column(
            "halted_at", sa.DateTime(timezone=True), comment="since when it stands still; null while it does not"
        ),
        sa.Column("halted_offset", sa.BigInteger(), comment="of the last message before the halt"),
        sa.Column("halted_because", sa.Text(), comment="what was too many"),
        sa.Column(
            "halted_reasons",
            postgresql.JSONB(astext_type=sa.Text()),
            comment="[reason, rejects] of those, the most frequent first",
        ),
    ):
        op.add_column("partitions", column)


def downgrade() -> None:
    for name in (
        "halted_reasons",
        "halted_because",
        "halted_offset",
        "halted_at",
        "reject_run",
        "recent_rejects",
        "recent_messages",
    ):
        op.drop_column("partitions", name)
