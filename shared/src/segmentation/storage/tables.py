"""Every table, as the code knows it; `migrations/` makes the database agree (a check holds them together).

Instants of events are microseconds since 1970-01-01T00:00Z (bigint), moments of our own are
timestamptz, business days are dates. Money is numeric in base minor units, whole and without
limit. Customer ids sort by bytes (collation C).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

_BYTES = Text(collation="C")
_MOMENT = DateTime(timezone=True)

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
    Column("last_applied_at", _MOMENT),
    Column("unsettled_since", _MOMENT, comment="since when the tiers have not covered an event applied here"),
    Column("recent_messages", Integer, nullable=False, server_default="0", comment="remembered by the reject budget"),
    Column("recent_rejects", LargeBinary, nullable=False, server_default="", comment="a bit for each, latest lowest"),
    Column("reject_run", Integer, nullable=False, server_default="0", comment="the last so many were rejected"),
    Column("halted_at", _MOMENT, comment="since when it stands still; null while it does not"),
    Column("halted_offset", BigInteger, comment="of the last message before the halt"),
    Column("halted_because", Text, comment="what was too many"),
    Column("halted_reasons", JSONB, comment="[reason, rejects] of those, the most frequent first"),
    postgresql_with={"fillfactor": "50"},
)

workers = Table(
    "workers",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("started_at", _MOMENT, nullable=False),
    Column("seen_at", _MOMENT, nullable=False, comment="by the clock of the database"),
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

policies = Table(
    "policies",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("created_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("author", Text, comment="who wrote the source"),
    Column("note", Text, comment="what it is for"),
    Column("origin", Text, nullable=False, server_default="shipped", comment="shipped, file or api"),
)

policy_activations = Table(
    "policy_activations",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("version", Integer, ForeignKey("policies.version"), nullable=False),
    Column("on_day", Date, comment="from which business day it is wanted; null: at once"),
    Column("author", Text, nullable=False),
    Column("reason", Text),
    Column("requested_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("activated_at", _MOMENT, comment="null until it was put in force"),
    Column("cancelled_at", _MOMENT),
    Column("replaced_version", Integer, comment="that was in force before; null until then, and for the first"),
    Index(
        "policy_activations_waiting_idx",
        "on_day",
        postgresql_where=text("activated_at IS NULL AND cancelled_at IS NULL"),
    ),
)

models = Table(
    "models",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False, comment="JSON, as the trainer wrote it"),
    Column("card", JSONB, nullable=False, comment="of the document: data, cuts, figures"),
    Column("author", Text, nullable=False),
    Column("note", Text, comment="what it is for"),
    Column("refusals", JSONB, comment="[rule, sentence] of those overruled; null for none"),
    Column("forced_because", Text, comment="why they were overruled"),
    Column("created_at", _MOMENT, nullable=False, server_default=func.now()),
)

model_activations = Table(
    "model_activations",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("version", Integer, ForeignKey("models.version"), comment="null: no model is in force from then on"),
    Column("kind", Text, nullable=False, comment="activate or rollback"),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("activated_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("replaced_version", Integer, comment="that was in force before; null for none"),
)

# Nothing writes or reads it any more: `erasures` took its place. It goes with the next contraction.
suppressed_customers = Table(
    "suppressed_customers",
    metadata,
    Column("customer_id", _BYTES, primary_key=True),
    Column("erased_at", _MOMENT, nullable=False, server_default=func.now()),
)

erasures = Table(
    "erasures",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="keyed hash of the customer id: all that stays of it"),
    Column("erased_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("author", Text, comment="who had it erased"),
    Column("reason", Text),
)

events = Table(
    "events",
    metadata,
    Column("event_key", LargeBinary, primary_key=True, comment="16-byte hash of the event id"),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("customer_id", _BYTES, nullable=False),
    Column("order_id", _BYTES, comment="of orders, cancellations and deliveries"),
    Column("occurred_at", BigInteger, nullable=False),
    Column("business_day", Date, nullable=False),
    Column("currency", Text, comment="of orders and returns, as given"),
    Column("given_amount", Numeric, comment="of orders and returns, in that currency"),
    Column("amount", Numeric, comment="converted, of orders and returns"),
    Column("profit", Numeric, comment="converted, of orders with a cost"),
    Column("score", Numeric, comment="of feedback"),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("value", LargeBinary, nullable=False, comment="as received"),
    Column("headers", Text, comment="as received, JSON, values in base64; null without any"),
    Column("recorded_at", _MOMENT, nullable=False, server_default=func.now()),
    Index(None, "business_day"),
    Index(None, "customer_id"),
)

customers = Table(
    "customers",
    metadata,
    Column("customer_id", _BYTES, primary_key=True),
    Column("profile", JSONB, nullable=False, server_default="{}", comment="field: [occurred_at, event_id, value]"),
    Column("description", Text, comment="the profile as decisions look at it, JSON; null: none, or not made yet"),
    Column("recorded_at", _MOMENT, nullable=False, server_default=func.now()),
)

orders = Table(
    "orders",
    metadata,
    Column("customer_id", _BYTES, primary_key=True),
    Column("order_id", _BYTES, primary_key=True),
    Column("occurred_at", BigInteger, comment="of the counting version; null while only deliveries are known"),
    Column("event_id", Text),
    Column("business_day", Date, comment="null where the counting version is a cancellation"),
    Column("amount", Numeric),
    Column("profit", Numeric),
    Column("items", BigInteger),
    Column("parcels", BigInteger),
    Column("weight_grams", Numeric),
    Column("promised_at", BigInteger),
    Column("delivered_at", BigInteger),
    Column("services", JSONB),
    Column("region", Text),
    Column("channel", Text),
    Column("promise_occurred_at", BigInteger, comment="the latest delivery event that names a promise"),
    Column("promise_event_id", Text),
    Column("promise_instant", BigInteger),
    Column("arrival_occurred_at", BigInteger, comment="the latest delivery event that names an arrival"),
    Column("arrival_event_id", Text),
    Column("arrival_instant", BigInteger),
)

retractions = Table(
    "retractions",
    metadata,
    Column("customer_id", _BYTES, primary_key=True),
    Column("event_key", LargeBinary, primary_key=True, comment="of the event taken back, arrived or not"),
)

day_buckets = Table(
    "day_buckets",
    metadata,
    Column("customer_id", _BYTES, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("orders", BigInteger, nullable=False),
    Column("gross_revenue", Numeric, nullable=False),
    Column("gross_profit", Numeric, nullable=False),
    Column("orders_with_cost", BigInteger, nullable=False),
    Column("items", Numeric, nullable=False),
    Column("parcels", Numeric, nullable=False),
    Column("weight_grams", Numeric, nullable=False),
    Column("orders_on_time", BigInteger, nullable=False),
    Column("orders_with_promise", BigInteger, nullable=False),
    Column("returns", BigInteger, nullable=False),
    Column("returned_amount", Numeric, nullable=False),
    Column("complaints", BigInteger, nullable=False),
    Column("feedbacks", BigInteger, nullable=False),
    Column("feedback_total", Numeric, nullable=False),
    postgresql_with={"fillfactor": "80"},
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("customer_id", _BYTES, primary_key=True),
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
    Column("updated_at", _MOMENT, nullable=False),
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
    Column("customer_id", _BYTES, primary_key=True),
    Column("tier", Text, comment="null: the rules decide"),
    Column("service_level", Text, comment="null: the policy decides"),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("expires_on", Date, nullable=False, comment="the first business day on which it no longer counts"),
    Column("set_at", _MOMENT, nullable=False),
)

history = Table(
    "history",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=True),
    Column("customer_id", _BYTES, nullable=False),
    Column("as_of", Date, nullable=False, comment="the business day that it was assessed for"),
    Column("kind", Text, nullable=False),
    Column("author", Text, comment="who set or ended an override"),
    Column("reason", Text),
    Column("snapshot", JSONB, nullable=False, comment="what stands from then on"),
    Column("recorded_at", _MOMENT, nullable=False, server_default=func.now()),
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
    Column("settled_at", _MOMENT),
)

value_moves = Table(
    "value_moves",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("customer_ids", Text(collation="C"), nullable=False, comment="a line each; those of one transaction"),
    Column("values", Text, nullable=False, comment="what each is ranked by now, a line each; 0 for nothing"),
)

changes = Table(
    "changes",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=True),
    Column("customer_id", _BYTES, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("recorded_at", _MOMENT, nullable=False, server_default=func.now()),
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
    Column("customer_id", _BYTES),
    Column("event_id", Text),
    Column("value", LargeBinary),
    Column("headers", Text, comment="as received, JSON, values in base64; null without any"),
    Column("recorded_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("replayed_as", Text, comment="its outcome, once a replay gave it another than rejected"),
    Column("replayed_at", _MOMENT, comment="of the last replay, whatever came of it"),
    Column("position", BigInteger, unique=True, comment="its place in the feed; null until it has one"),
    Column("erased_at", _MOMENT, comment="since when nothing stands here of what it said: its customer was erased"),
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
)

full_snapshots = Table(
    "full_snapshots",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("attempt", Integer, nullable=False, server_default="0", comment="grows each time it is begun; 0 before"),
    Column("requested_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("begun_at", _MOMENT, comment="of the last attempt"),
    Column("done_at", _MOMENT),
    Column("customers", BigInteger, nullable=False, server_default="0", comment="on the topic, of the last attempt"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True, comment="shown: the part of the key that is no secret"),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the secret"),
    Column("scopes", Text, nullable=False, comment="as given, with spaces between"),
    Column("requests_per_second", Float, comment="null: as the settings say"),
    Column("replaces", Text, comment="the key it was rotated from"),
    Column("created_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("expires_at", _MOMENT),
    Column("revoked_at", _MOMENT),
    Column("last_used_at", _MOMENT, comment="to the minute"),
    postgresql_with={"fillfactor": "70"},
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("at", _MOMENT, nullable=False, server_default=func.now()),
    Column("actor_kind", Text, nullable=False, comment="anyone, key, token or command"),
    Column("actor_id", Text, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("request_id", Text),
    Column("action", Text, nullable=False),
    Column("subject", Text, comment="version, dead letter or key; null where it is a customer"),
    Column("customer_id", _BYTES),
    Column("reason", Text),
    Column("author", Text, comment="whom the request names as the one who decided; not checked"),
    Column("detail", JSONB, nullable=False, server_default="{}"),
    Index(None, "customer_id", postgresql_where=text("customer_id IS NOT NULL")),
)

# --- the baseline: what dropped events counted ----------------------------------------------------------------------

dropped_customers = Table(
    "dropped_customers",
    metadata,
    Column("customer_id", _BYTES, primary_key=True, comment="whose raw events were dropped, some or all"),
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
    Column("customer_id", _BYTES, primary_key=True),
    Column("event_key", LargeBinary, primary_key=True, comment="of the event taken back"),
)

dropped_occurrences = Table(
    "dropped_occurrences",
    metadata,
    Column("customer_id", _BYTES, primary_key=True),
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
