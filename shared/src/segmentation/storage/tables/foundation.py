"""What a ledger is built with, how far it has come, and who is at work."""

from sqlalchemy import BigInteger, Column, Date, Integer, LargeBinary, Numeric, Sequence, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from segmentation.storage.tables.common import MOMENT, metadata

house = Table(
    "house",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="always 1: the table has one row"),
    Column("clock", Text, nullable=False),
    Column("base_currency", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("as_of", Date, comment="with the event clock: the greatest business day applied"),
    Column("policy_version", Integer, nullable=False, comment="the version in force"),
    Column("rates_version", Integer, nullable=False, server_default="0", comment="grows with every load of rates"),
    Column("events_known_since", Date, comment="raw events of earlier days may have been dropped; null: none was"),
    Column("model_version", Integer, nullable=False, server_default="0", comment="the version in force; 0 for none"),
    Column("erasure_key", Text, comment="where no setting names one"),
    Column("erasure_key_check", LargeBinary, comment="of the key in use, wherever that is kept"),
    Column("erasures", BigInteger, nullable=False, server_default="0", comment="as many as there are rows of them"),
    Column("customers_erased", BigInteger, nullable=False, server_default="0", comment="known ones; no longer counted"),
)

partitions = Table(
    "partitions",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False, comment="grows with every claim"),
    Column("owner", Text, comment="the worker that holds the claim"),
    Column("next_offset", BigInteger, comment="null: from the beginning"),
    Column("end_offset", BigInteger, comment="as the worker last saw it"),
    Column("applied", BigInteger, nullable=False, server_default="0"),
    Column("duplicate", BigInteger, nullable=False, server_default="0"),
    Column("rejected", BigInteger, nullable=False, server_default="0"),
    Column("suppressed", BigInteger, nullable=False, server_default="0"),
    Column("new_customers", BigInteger, nullable=False, server_default="0", comment="first heard of here"),
    Column("last_applied_at", MOMENT),
    Column("unsettled_since", MOMENT, comment="since when the tiers have not covered an event applied here"),
    Column("recent_messages", Integer, nullable=False, server_default="0", comment="remembered by the reject budget"),
    Column("recent_rejects", LargeBinary, nullable=False, server_default="", comment="a bit for each, latest lowest"),
    Column("reject_run", Integer, nullable=False, server_default="0", comment="the last so many were rejected"),
    Column("halted_at", MOMENT, comment="since when it stands still; null while it does not"),
    Column("halted_offset", BigInteger, comment="of the last message before the halt"),
    Column("halted_because", Text, comment="what was too many"),
    Column("halted_reasons", JSONB, comment="[reason, rejects] of those, the most frequent first"),
    postgresql_with={"fillfactor": "50"},
)

posted_offsets = Sequence("posted_offsets", start=0, minvalue=0, metadata=metadata)
"""Of events that were posted: unique, with gaps where a transaction came to nothing."""

workers = Table(
    "workers",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("started_at", MOMENT, nullable=False),
    Column("seen_at", MOMENT, nullable=False, comment="by the clock of the database"),
    Column("waiting_for", JSONB, nullable=False, comment="part, for, since, detail of each wait"),
    postgresql_with={"fillfactor": "50"},
)

exchange_rates = Table(
    "exchange_rates",
    metadata,
    Column("currency", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("scaled_rate", Numeric, nullable=False, comment="10^-12 base units for one unit"),
)
