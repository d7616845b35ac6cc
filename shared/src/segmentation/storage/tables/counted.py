"""What events say, as they count: raw events, customers, orders, day buckets."""

from sqlalchemy import BigInteger, Column, Date, Index, Integer, LargeBinary, Numeric, Table, Text, func
from sqlalchemy.dialects.postgresql import JSONB

from segmentation.storage.tables.common import BYTES, MOMENT, metadata

events = Table(
    "events",
    metadata,
    Column("event_key", LargeBinary, primary_key=True, comment="16-byte hash of the event id"),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("customer_id", BYTES, nullable=False),
    Column("order_id", BYTES, comment="of orders, cancellations and deliveries"),
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
    Column("recorded_at", MOMENT, nullable=False, server_default=func.now()),
    Index(None, "business_day"),
    Index(None, "customer_id"),
)

customers = Table(
    "customers",
    metadata,
    Column("customer_id", BYTES, primary_key=True),
    Column("profile", JSONB, nullable=False, server_default="{}", comment="field: [occurred_at, event_id, value]"),
    Column("description", Text, comment="the profile as decisions look at it, JSON; null: none, or not made yet"),
    Column("recorded_at", MOMENT, nullable=False, server_default=func.now()),
)

orders = Table(
    "orders",
    metadata,
    Column("customer_id", BYTES, primary_key=True),
    Column("order_id", BYTES, primary_key=True),
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
    Column("customer_id", BYTES, primary_key=True),
    Column("event_key", LargeBinary, primary_key=True, comment="of the event taken back, arrived or not"),
)

day_buckets = Table(
    "day_buckets",
    metadata,
    Column("customer_id", BYTES, primary_key=True),
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
