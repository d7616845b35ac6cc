"""Which workers live, and what they wait for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False, comment="by the clock of the database"),
        sa.Column(
            "waiting_for",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="part, for, since, detail of each wait",
        ),
        sa.PrimaryKeyConstraint("owner", name=op.f("workers_pkey")),
        postgresql_with={"fillfactor": "50"},
    )


def downgrade() -> None:
    op.drop_table("workers")
