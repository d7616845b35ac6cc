"""Who may ask, what was done by hand, and who was erased."""

from sqlalchemy import BigInteger, Column, Float, Index, LargeBinary, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from segmentation.storage.tables.common import BYTES, MOMENT, metadata

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True, comment="shown: the part of the key that is no secret"),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the secret"),
    Column("scopes", Text, nullable=False, comment="as given, with spaces between"),
    Column("requests_per_second", Float, comment="null: as the settings say"),
    Column("replaces", Text, comment="the key it was rotated from"),
    Column("created_at", MOMENT, nullable=False, server_default=func.now()),
    Column("expires_at", MOMENT),
    Column("revoked_at", MOMENT),
    Column("last_used_at", MOMENT, comment="to the minute"),
    postgresql_with={"fillfactor": "70"},
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("at", MOMENT, nullable=False, server_default=func.now()),
    Column("actor_kind", Text, nullable=False, comment="anyone, key, token or command"),
    Column("actor_id", Text, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("request_id", Text),
    Column("action", Text, nullable=False),
    Column("subject", Text, comment="version, dead letter or key; null where it is a customer"),
    Column("customer_id", BYTES),
    Column("reason", Text),
    Column("author", Text, comment="whom the request names as the one who decided; not checked"),
    Column("detail", JSONB, nullable=False, server_default="{}"),
    Index(None, "customer_id", postgresql_where=text("customer_id IS NOT NULL")),
)

# Nothing writes or reads it any more: `erasures` took its place. It goes with the next contraction.
suppressed_customers = Table(
    "suppressed_customers",
    metadata,
    Column("customer_id", BYTES, primary_key=True),
    Column("erased_at", MOMENT, nullable=False, server_default=func.now()),
)

erasures = Table(
    "erasures",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="keyed hash of the customer id: all that stays of it"),
    Column("erased_at", MOMENT, nullable=False, server_default=func.now()),
    Column("author", Text, comment="who had it erased"),
    Column("reason", Text),
)
