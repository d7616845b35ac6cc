"""expand streams"""

from alembic import op

revision = "0014"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE posted_offsets MINVALUE 0 START 0")


def downgrade() -> None:
    op.execute("DROP SEQUENCE posted_offsets")
