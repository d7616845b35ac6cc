"""Every table, as the code knows it; `migrations/` makes the database agree (a check holds them together).

Instants of events are microseconds since 1970-01-01T00:00Z (bigint), moments of our own are
timestamptz, business days are dates. Money is numeric in base minor units, whole and without
limit. Customer ids sort by bytes (collation C).
"""

from segmentation.storage.tables.baseline import (
    dropped_customers,
    dropped_occurrences,
    dropped_orders,
    dropped_retractions,
    dropped_totals,
)
from segmentation.storage.tables.common import metadata
from segmentation.storage.tables.counted import customers, day_buckets, events, orders, retractions
from segmentation.storage.tables.deciding import model_activations, models, policies, policy_activations
from segmentation.storage.tables.foundation import exchange_rates, house, partitions, posted_offsets, workers
from segmentation.storage.tables.outgoing import (
    changes,
    dead_letters,
    feeds,
    full_snapshots,
    webhook_attempts,
    webhooks,
)
from segmentation.storage.tables.people import api_keys, audit, erasures, suppressed_customers
from segmentation.storage.tables.standing import history, overrides, snapshots, tier_state, value_moves
from segmentation.storage.tables.touched import touched

__all__ = [
    "api_keys",
    "audit",
    "changes",
    "customers",
    "day_buckets",
    "dead_letters",
    "dropped_customers",
    "dropped_occurrences",
    "dropped_orders",
    "dropped_retractions",
    "dropped_totals",
    "erasures",
    "events",
    "exchange_rates",
    "feeds",
    "full_snapshots",
    "history",
    "house",
    "metadata",
    "model_activations",
    "models",
    "orders",
    "overrides",
    "partitions",
    "policies",
    "policy_activations",
    "posted_offsets",
    "retractions",
    "snapshots",
    "suppressed_customers",
    "tier_state",
    "touched",
    "value_moves",
    "webhook_attempts",
    "webhooks",
    "workers",
]
