"""What stands of each customer, what stood, and the ranking."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from segmentation.storage.tables.common import BYTES, MOMENT, metadata

snapshots = Table(
    "snapshots",
    metadata,
    Column("customer_id", BYTES, primary_key=True),
    Column("as_of", Date, nullable=False),
    Column("due_on", Date, nullable=False, comment="next day on which it changes if nothing happens"),
    Column("value", Numeric, comment="what the customer is ranked by"),
    Column("computed_tier", Text, nullable=False),
    Column("computed_since", Date),
    Column("closed_a", Date),
    Column("closed_b", Date),
    Column("closed_c", Date),
    Column("tier", Text, nullable=False, comment="the effective one"),
    Column("tier_since", Date, nullable=False),
    Column("lifecycle", Text, nullable=False),
    Column("segment", Text, nullable=False),
    Column("segment_since", Date, nullable=False),
    Column("segment_reasons", JSONB, nullable=False),
    Column("service_level", Text, nullable=False),
    Column("service_reasons", JSONB, nullable=False),
    Column("policy_version", Integer, ForeignKey("policies.version"), nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    Column("industry", Text),
    Column("subject_type", Text),
    Column("region", Text, comment="of the profile, else of the latest order that has one; so the channel"),
    Column("channel", Text),
    Column("needs", JSONB, comment="codes, declared or shown by services ordered; null for none"),
    Column("value_level", Text),
    Column("size", Text),
    Column("frequency", Text),
    Column("grade", Text, comment="this and the three before it: null where not decided yet"),
    Column("known", SmallInteger, nullable=False, server_default="0", comment="facts known about the customer"),
    Column("additions", JSONB, comment="[code, reasons] of what is added to the service level; null for nothing"),
    Column("order_traits", Text, comment="what counting orders say, JSON; null: has to be found out"),
    Column("model_version", Integer, nullable=False, server_default="0", comment="in force then; 0 for none"),
    Column("churn_probability", Double, comment="this and the three after it: null where no model knows it"),
    Column("behaviour", Text, comment="code of the segment that the model puts it in"),
    Column("confidence", Double, comment="of the behaviour"),
    Column("expected_value", Numeric, comment="what the model expects of its horizon, in base minor units"),
    Column("churn_warning", Boolean, comment="null: from before there were any; the lifecycle says it"),
    Index(None, "due_on"),
    Index(None, "policy_version", "model_version"),
    Index("snapshots_scored_idx", "as_of", postgresql_where=text("churn_probability IS NOT NULL")),
    postgresql_with={"fillfactor": "70"},
)

overrides = Table(
    "overrides",
    metadata,
    Column("customer_id", BYTES, primary_key=True),
    Column("tier", Text, comment="null: the rules decide"),
    Column("service_level", Text, comment="null: the policy decides"),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("expires_on", Date, nullable=False, comment="the first business day on which it no longer counts"),
    Column("set_at", MOMENT, nullable=False),
)

history = Table(
    "history",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=True),
    Column("customer_id", BYTES, nullable=False),
    Column("as_of", Date, nullable=False, comment="the business day that it was assessed for"),
    Column("kind", Text, nullable=False),
    Column("author", Text, comment="who set or ended an override"),
    Column("reason", Text),
    Column("snapshot", JSONB, nullable=False, comment="what stands from then on"),
    Column("recorded_at", MOMENT, nullable=False, server_default=func.now()),
    Index(None, "customer_id", "sequence"),
)

tier_state = Table(
    "tier_state",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="always 1: the table has one row"),
    Column("attempt", BigInteger, nullable=False, comment="grows as each settling begins: fences off earlier ones"),
    Column("as_of", Date, comment="this and the rest: null until the first settling has ended"),
    Column("policy_version", Integer),
    Column("covered", BigInteger, comment="how many applied events the ranking covers"),
    Column("overview", JSONB, comment="cut-offs, counts and shares"),
    Column("settled_at", MOMENT),
)

value_moves = Table(
    "value_moves",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("customer_ids", Text(collation="C"), nullable=False, comment="a line each; those of one transaction"),
    Column("values", Text, nullable=False, comment="what each is ranked by now, a line each; 0 for nothing"),
)
