"""expand erasures

Erased customers by a keyed hash of their ids. Workers of the version before know nothing of them and would bring an
erased customer back: erase nobody until all workers run this one. `suppressed_customers`, which nothing ever filled,
stays for them until the next contraction.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_HOUSE_COLUMNS = (
    sa.Column("erasure_key", sa.Text(), comment="where no setting names one"),
    sa.Column("erasure_key_check", sa.LargeBinary(), comment="of the key in use, wherever that is kept"),
    sa.Column(
        "erasures", sa.BigInteger(), nullable=False, server_default="0", comment="as many as there are rows of them"
    ),
    sa.Column(
        "customers_erased",
        sa.BigInteger(),
        nullable=False,
        server_default="0",
        comment="known ones; no longer counted",
    ),
)


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column(
            "digest", sa.LargeBinary(), nullable=False, comment="keyed hash of the customer id: all that stays of it"
        ),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("author", sa.Text(), comment="who had it erased"),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("digest", name=op.f("erasures_pkey")),
    )
    for column in _HOUSE_COLUMNS:
        op.add_column("house", column.copy())
    op.add_column(
        "dead_letters",
        sa.Column(
            "erased_at",
            sa.DateTime(timezone=True),
            comment="since when nothing stands here of what it said: its customer was erased",
        ),
    )
    op.create_index(op.f("dead_letters_customer_id_idx"), "dead_letters", ["customer_id"])
    op.create_index(op.f("changes_customer_id_idx"), "changes", ["customer_id"])
    op.create_index(
        "changes_erased_idx",
        "changes",
        ["sequence"],
        postgresql_where=sa.text("payload = '{\"erased\": true}'::jsonb"),
    )


def downgrade() -> None:
    op.drop_index("changes_erased_idx", table_name="changes")
    op.drop_index(op.f("changes_customer_id_idx"), table_name="changes")
    op.drop_index(op.f("dead_letters_customer_id_idx"), table_name="dead_letters")
    op.drop_column("dead_letters", "erased_at")
    for column in _HOUSE_COLUMNS:
        op.drop_column("house", column.name)
    op.drop_table("erasures")
