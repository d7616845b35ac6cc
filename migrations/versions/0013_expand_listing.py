"""expand listing

No table changes: what listings and counts read, they find by what is there (docs/decisions/0022).

Snapshots from before revision 0009 that nobody has assessed since say nothing of region, grade and the like. A reader
completes each of them for its answer; a count of everyone could only find them by reading every row twice. So they come
due at once, and the sweep completes them for good. There are none where the shipped policy decides: it came with the
facets, and whoever another version assessed is due anyway.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE snapshots SET due_on = as_of WHERE order_traits IS NULL AND due_on > as_of")


def downgrade() -> None:
    pass
