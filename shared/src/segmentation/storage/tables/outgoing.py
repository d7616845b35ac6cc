"""What others are told."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from segmentation.storage.tables.common import BYTES, MOMENT, metadata

changes = Table(
    "changes",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=True),
    Column("customer_id", BYTES, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("recorded_at", MOMENT, nullable=False, server_default=func.now()),
    Column("position", BigInteger, unique=True, comment="its place in the feed; null until it has one"),
    Index("changes_unplaced_idx", "sequence", postgresql_where=text("position IS NULL")),
    Index(None, "customer_id"),
    Index("changes_erased_idx", "sequence", postgresql_where=text("payload = '{\"erased\": true}'::jsonb")),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("field", Text),
    Column("sentence", Text, nullable=False),
    Column("customer_id", BYTES),
    Column("event_id", Text),
    Column("value", LargeBinary),
    Column("headers", Text, comment="as received, JSON, values in base64; null without any"),
    Column("recorded_at", MOMENT, nullable=False, server_default=func.now()),
    Column("replayed_as", Text, comment="its outcome, once a replay gave it another than rejected"),
    Column("replayed_at", MOMENT, comment="of the last replay, whatever came of it"),
    Column("position", BigInteger, unique=True, comment="its place in the feed; null until it has one"),
    Column("erased_at", MOMENT, comment="since when nothing stands here of what it said: its customer was erased"),
    Index(None, "event_id"),
    Index(None, "customer_id"),
    Index("dead_letters_unplaced_idx", "id", postgresql_where=text("position IS NULL")),
)

feeds = Table(
    "feeds",
    metadata,
    Column("name", Text, primary_key=True, comment="the table that it is a feed of"),
    Column("placed", BigInteger, nullable=False, comment="the last position given"),
    Column("relayed", BigInteger, nullable=False, comment="the last position that is on the topic"),
    Column("dropped", BigInteger, nullable=False, server_default="0", comment="up to here none is kept any more"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False, comment="that its messages are signed with"),
    Column("description", Text),
    Column("wanted", JSONB, nullable=False, comment="by tiers, segments, service_levels, customer_ids; empty: all"),
    Column("position", BigInteger, nullable=False, comment="in the feed of changes: all up to it is done"),
    Column("pending", BigInteger, comment="the last position of a message to be sent again as it was"),
    Column("created_at", MOMENT, nullable=False, server_default=func.now()),
    Column("failures", Integer, nullable=False, server_default="0", comment="in a row"),
    Column("failing_since", MOMENT),
    Column("next_try_at", MOMENT, comment="null: at once"),
    Column("problem", Text, comment="of the last try, where it failed"),
    Column("disabled_at", MOMENT),
    Column("disabled_because", Text),
    Column("tests", BigInteger, nullable=False, server_default="0", comment="asked for so far"),
    Column("tested", BigInteger, nullable=False, server_default="0", comment="of these, sent"),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("webhook_id", BigInteger, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("message_id", Text, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("status", Integer, comment="of the answer; null where there was none"),
    Column("problem", Text, comment="null where it was taken"),
    Column("milliseconds", Integer, nullable=False),
    Column("at", MOMENT, nullable=False, server_default=func.now()),
    Index(None, "webhook_id", "id"),
    Index(None, "at"),
)

full_snapshots = Table(
    "full_snapshots",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("attempt", Integer, nullable=False, server_default="0", comment="grows each time it is begun; 0 before"),
    Column("requested_at", MOMENT, nullable=False, server_default=func.now()),
    Column("begun_at", MOMENT, comment="of the last attempt"),
    Column("done_at", MOMENT),
    Column("customers", BigInteger, nullable=False, server_default="0", comment="on the topic, of the last attempt"),
)
