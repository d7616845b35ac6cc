"""expand outlooks

What a model says of a customer, and whether there is a churn warning. Rows from before say nothing of it: no model had
looked at them, and the lifecycle says who was in danger. The index on the version of the policy takes that of the
model in; a partial one finds whom a model has looked at on an earlier day.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_COLUMNS = (
    sa.Column("model_version", sa.Integer(), nullable=False, server_default="0", comment="in force then; 0 for none"),
    sa.Column("churn_probability", sa.Double(), comment="this and the three after it: null where no model knows it"),
    sa.Column("behaviour", sa.Text(), comment="code of the segment that the model puts it in"),
    sa.Column("confidence", sa.Double(), comment="of the behaviour"),
    sa.Column("expected_value", sa.Numeric(), comment="what the model expects of its horizon, in base minor units"),
    sa.Column("churn_warning", sa.Boolean(), comment="null: from before there were any; the lifecycle says it"),
)


def upgrade() -> None:
    for column in _COLUMNS:
        op.add_column("snapshots", column.copy())
    op.create_index("snapshots_policy_version_model_version_idx", "snapshots", ["policy_version", "model_version"])
    op.drop_index("snapshots_policy_version_idx", "snapshots")
    op.create_index(
        "snapshots_scored_idx",
        "snapshots",
        ["as_of"],
        postgresql_where=sa.text("churn_probability IS NOT NULL"),
    )


def downgrade() -> None:
    op.create_index("snapshots_policy_version_idx", "snapshots", ["policy_version"])
    op.drop_index("snapshots_scored_idx", "snapshots")
    op.drop_index("snapshots_policy_version_model_version_idx", "snapshots")
    for column in _COLUMNS:
        op.drop_column("snapshots", column.name)
