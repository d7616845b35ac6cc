"""expand access

API keys, of which digests are kept, and the trail of what was changed by hand.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False, comment="shown: the part of the key that is no secret"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the secret"),
        sa.Column("scopes", sa.Text(), nullable=False, comment="as given, with spaces between"),
        sa.Column("requests_per_second", sa.Float(), comment="null: as the settings say"),
        sa.Column("replaces", sa.Text(), comment="the key it was rotated from"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_at", sa.DateTime(timezone=True), comment="to the minute"),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("actor_kind", sa.Text(), nullable=False, comment="anyone, key, token or command"),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text()),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), comment="version, dead letter or key; null where it is a customer"),
        sa.Column("customer_id", sa.Text(collation="C")),
        sa.Column("reason", sa.Text()),
        sa.Column("author", sa.Text(), comment="whom the request names as the one who decided; not checked"),
        sa.Column("detail", JSONB(), nullable=False, server_default="{}"),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pkey")),
    )
    op.create_index(
        op.f("audit_customer_id_idx"), "audit", ["customer_id"], postgresql_where=sa.text("customer_id IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("api_keys")
