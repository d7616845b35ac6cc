"""Whose answers a transaction changed."""

from sqlalchemy import BigInteger, Column, Index, Table, Text, text
from sqlalchemy.types import UserDefinedType

from segmentation.storage.tables.common import metadata


class TransactionId(UserDefinedType[int]):
    """PostgreSQL's `xid8`: never used twice, unlike `xid`."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


touched = Table(
    "touched",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column(
        "transaction_id",
        TransactionId,
        nullable=False,
        server_default=text("pg_current_xact_id()"),
        comment="by which a reader tells what its last look could not see yet",
    ),
    Column("customer_ids", Text(collation="C"), nullable=False, comment="a line each; those of one transaction"),
    Index(None, "transaction_id"),
)
