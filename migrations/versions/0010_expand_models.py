"""expand models

Models that were published, when which was put in force and why, and the one in force now; 0 for none, as before.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False, comment="JSON, as the trainer wrote it"),
        sa.Column("card", JSONB(), nullable=False, comment="of the document: data, cuts, figures"),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), comment="what it is for"),
        sa.Column("refusals", JSONB(), comment="[rule, sentence] of those overruled; null for none"),
        sa.Column("forced_because", sa.Text(), comment="why they were overruled"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("version", name=op.f("models_pkey")),
    )
    op.create_table(
        "model_activations",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("version", sa.Integer(), comment="null: no model is in force from then on"),
        sa.Column("kind", sa.Text(), nullable=False, comment="activate or rollback"),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("replaced_version", sa.Integer(), comment="that was in force before; null for none"),
        sa.ForeignKeyConstraint(["version"], ["models.version"], name=op.f("model_activations_version_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("model_activations_pkey")),
    )
    op.add_column(
        "house",
        sa.Column(
            "model_version",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="the version in force; 0 for none",
        ),
    )


def downgrade() -> None:
    op.drop_column("house", "model_version")
    op.drop_table("model_activations")
    op.drop_table("models")
