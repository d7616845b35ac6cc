"""expand touched

Whose answer a transaction changed, for those who keep answers: the caches of the API. Rows live for a minute or two.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


class _TransactionId(UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


def upgrade() -> None:
    op.create_table(
        "touched",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column(
            "transaction_id",
            _TransactionId(),
            nullable=False,
            server_default=sa.text("pg_current_xact_id()"),
            comment="by which a reader tells what its last look could not see yet",
        ),
        sa.Column(
            "customer_ids",
            sa.Text(collation="C"),
            nullable=False,
            comment="a line each; those of one transaction",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("touched_pkey")),
    )
    op.create_index(op.f("touched_transaction_id_idx"), "touched", ["transaction_id"])


def downgrade() -> None:
    op.drop_table("touched")
