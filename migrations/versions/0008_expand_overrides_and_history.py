"""expand overrides and history

What people decide over the rules, and every answer that was another than the one before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "overrides",
        sa.Column("customer_id", sa.Text(collation="C"), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True, comment="null: the rules decide"),
        sa.Column("service_level", sa.Text(), nullable=True, comment="null: the policy decides"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column(
            "expires_on", sa.Date(), nullable=False, comment="the first business day on which it no longer counts"
        ),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("overrides_pkey")),
    )
    op.create_table(
        "history",
        sa.Column("sequence", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("customer_id", sa.Text(collation="C"), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False, comment="the business day that it was assessed for"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=True, comment="who set or ended an override"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "snapshot",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="what stands from then on",
        ),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("history_pkey")),
    )
    op.create_index(op.f("history_customer_id_sequence_idx"), "history", ["customer_id", "sequence"], unique=False)


def downgrade() -> None:
    op.drop_table("history")
    op.drop_table("overrides")
