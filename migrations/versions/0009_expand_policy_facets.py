"""expand policy facets

What the policy decides by beside tier and rates, and the history of its activations. Rows from before say nothing of
it: a snapshot without it is completed when the customer is next assessed.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_SNAPSHOT_COLUMNS = (
    sa.Column("industry", sa.Text()),
    sa.Column("subject_type", sa.Text()),
    sa.Column("region", sa.Text(), comment="of the profile, else of the latest order that has one; so the channel"),
    sa.Column("channel", sa.Text()),
    sa.Column("needs", JSONB(), comment="codes, declared or shown by services ordered; null for none"),
    sa.Column("value_level", sa.Text()),
    sa.Column("size", sa.Text()),
    sa.Column("frequency", sa.Text()),
    sa.Column("grade", sa.Text(), comment="this and the three before it: null where not decided yet"),
    sa.Column("known", sa.SmallInteger(), nullable=False, server_default="0", comment="facts known about the customer"),
    sa.Column("additions", JSONB(), comment="[code, reasons] of what is added to the service level; null for nothing"),
    sa.Column("order_traits", sa.Text(), comment="what counting orders say, JSON; null: has to be found out"),
)
_POLICY_COLUMNS = (
    sa.Column("author", sa.Text(), comment="who wrote the source"),
    sa.Column("note", sa.Text(), comment="what it is for"),
    sa.Column("origin", sa.Text(), nullable=False, server_default="shipped", comment="shipped, file or api"),
)


def upgrade() -> None:
    op.add_column(
        "customers",
        sa.Column(
            "description",
            sa.Text(),
            comment="the profile as decisions look at it, JSON; null: none, or not made yet",
        ),
    )
    for column in _SNAPSHOT_COLUMNS:
        op.add_column("snapshots", column.copy())
    for column in _POLICY_COLUMNS:
        op.add_column("policies", column.copy())
    op.create_table(
        "policy_activations",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("on_day", sa.Date(), comment="from which business day it is wanted; null: at once"),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("activated_at", sa.DateTime(timezone=True), comment="null until it was put in force"),
        sa.Column("cancelled_at", sa.DateTime(timezone=True)),
        sa.Column(
            "replaced_version",
            sa.Integer(),
            comment="that was in force before; null until then, and for the first",
        ),
        sa.ForeignKeyConstraint(["version"], ["policies.version"], name=op.f("policy_activations_version_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("policy_activations_pkey")),
    )
    op.create_index(
        "policy_activations_waiting_idx",
        "policy_activations",
        ["on_day"],
        postgresql_where=sa.text("activated_at IS NULL AND cancelled_at IS NULL"),
    )
    # Every version there is was brought by a worker's file and put in force as it came.
    op.execute(
        "INSERT INTO policy_activations (version, author, requested_at, activated_at, replaced_version) "
        "SELECT version, 'POLICY_FILE', created_at, created_at, lag(version) OVER (ORDER BY version) "
        "FROM policies ORDER BY version"
    )


def downgrade() -> None:
    op.drop_table("policy_activations")
    for column in _POLICY_COLUMNS:
        op.drop_column("policies", column.name)
    for column in _SNAPSHOT_COLUMNS:
        op.drop_column("snapshots", column.name)
    op.drop_column("customers", "description")
