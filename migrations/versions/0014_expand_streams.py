"""expand streams"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

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
    op.create_table(
        "webhooks",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False, comment="that its messages are signed with"),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column(
            "wanted",
            postgresql.JSONB(),
            nullable=False,
            comment="by tiers, segments, service_levels, customer_ids; empty: all",
        ),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="in the feed of changes: all up to it is done"),
        sa.Column(
            "pending",
            sa.BigInteger(),
            nullable=True,
            comment="the last position of a message to be sent again as it was",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False, comment="in a row"),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True, comment="null: at once"),
        sa.Column("problem", sa.Text(), nullable=True, comment="of the last try, where it failed"),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_because", sa.Text(), nullable=True),
        sa.Column("tests", sa.BigInteger(), server_default="0", nullable=False, comment="asked for so far"),
        sa.Column("tested", sa.BigInteger(), server_default="0", nullable=False, comment="of these, sent"),
        sa.PrimaryKeyConstraint("id", name=op.f("webhooks_pkey")),
    )
    op.create_table(
        "webhook_attempts",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True, comment="of the answer; null where there was none"),
        sa.Column("problem", sa.Text(), nullable=True, comment="null where it was taken"),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("webhook_attempts_webhook_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_attempts_pkey")),
    )
    op.create_index(op.f("webhook_attempts_webhook_id_id_idx"), "webhook_attempts", ["webhook_id", "id"])
    op.create_index(op.f("webhook_attempts_at_idx"), "webhook_attempts", ["at"])


def downgrade() -> None:
    op.drop_table("webhook_attempts")
    op.drop_table("webhooks")
    op.drop_column("feeds", "dropped")
    op.execute("DROP SEQUENCE posted_offsets")
