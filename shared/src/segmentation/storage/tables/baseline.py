"""What dropped events counted."""

from sqlalchemy import BigInteger, Column, Date, LargeBinary, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from segmentation.storage.tables.common import BYTES, metadata
from segmentation.storage.tables.counted import orders

dropped_customers = Table(
    "dropped_customers",
    metadata,
    Column("customer_id", BYTES, primary_key=True, comment="whose raw events were dropped, some or all"),
    Column("profile", JSONB, nullable=False, server_default="{}", comment="as in customers, by dropped events alone"),
)

dropped_orders = Table(
    "dropped_orders",
    metadata,
    *(Column(each.name, each.type, primary_key=each.primary_key, comment=each.comment) for each in orders.columns),
    comment="as orders, by dropped events alone",
)

dropped_retractions = Table(
    "dropped_retractions",
    metadata,
    Column("customer_id", BYTES, primary_key=True),
    Column("event_key", LargeBinary, primary_key=True, comment="of the event taken back"),
)

dropped_occurrences = Table(
    "dropped_occurrences",
    metadata,
    Column("customer_id", BYTES, primary_key=True),
    Column("event_key", LargeBinary, primary_key=True, comment="of a return, complaint or feedback"),
    Column("type", Text, nullable=False),
    Column("business_day", Date, nullable=False),
    Column("amount", Numeric, comment="converted, of returns"),
    Column("score", Numeric, comment="of feedback"),
)

dropped_totals = Table(
    "dropped_totals",
    metadata,
    Column("business_day", Date, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("currency", Text, primary_key=True, comment="empty for types without an amount"),
    Column("events", BigInteger, nullable=False),
    Column("amount", Numeric, comment="as given, in that currency"),
)
