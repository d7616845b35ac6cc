"""expand value moves

What the keeper has not ranked yet: it keeps everyone in memory, and takes from here what has moved.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "value_moves",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column(
            "customer_ids", sa.Text(collation="C"), nullable=False, comment="a line each; those of one transaction"
        ),
        sa.Column(
            "values", sa.Text(), nullable=False, comment="what each is ranked by now, a line each; 0 for nothing"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("value_moves_pkey")),
    )


def downgrade() -> None:
    op.drop_table("value_moves")
