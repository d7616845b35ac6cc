"""What decisions need of customers beside their figures: what profiles and counting orders say.

Profiles are read in the short form that is written along with them, orders only where what stands of them is unknown or
has been overtaken: a look at all orders of a customer costs as much as there are orders.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from segmentation import traits
from segmentation.assessment import Snapshot
from segmentation.counting import Version
from segmentation.fields import CustomerId
from segmentation.storage.counted import description_from_json, profile_from_json
from segmentation.traits import NO_ORDERS, Description, Latest, OrderTraits, TraitChange

_LOAD_DESCRIPTIONS = text("""
    -- The long form only where the short one was never made.
    SELECT customer_id, description, CASE WHEN description IS NULL THEN profile END AS profile FROM customers
    WHERE customer_id = ANY(CAST(:customer_ids AS text[])) AND (description IS NOT NULL OR profile <> '{}')
""")
_LATEST_NAMED = text("""
    -- Of each customer the latest counting order that names a region, and the latest that names a channel.
    (SELECT DISTINCT ON (customer_id) 'region' AS name, customer_id, occurred_at, event_id, region AS value FROM orders
     WHERE customer_id = ANY(CAST(:customer_ids AS text[])) AND business_day IS NOT NULL AND region IS NOT NULL
     ORDER BY customer_id, occurred_at DESC, event_id COLLATE "C" DESC)
    UNION ALL
    (SELECT DISTINCT ON (customer_id) 'channel', customer_id, occurred_at, event_id, channel FROM orders
     WHERE customer_id = ANY(CAST(:customer_ids AS text[])) AND business_day IS NOT NULL AND channel IS NOT NULL
     ORDER BY customer_id, occurred_at DESC, event_id COLLATE "C" DESC)
""")
_SERVICES_ORDERED = text("""
    SELECT customer_id, service, count(DISTINCT order_id) AS orders
    FROM orders CROSS JOIN LATERAL jsonb_array_elements_text(services) AS service
    WHERE customer_id = ANY(CAST(:customer_ids AS text[])) AND business_day IS NOT NULL
    GROUP BY customer_id, service
""")


async def load_descriptions(
    connection: AsyncConnection, customer_ids: Iterable[CustomerId]
) -> dict[CustomerId, Description]:
    """What profiles say, of those customers who have one."""
    rows = await connection.execute(_LOAD_DESCRIPTIONS, {"customer_ids": list(customer_ids)})
    return {row.customer_id: _description(row) for row in rows}


def _description(row: Any) -> Description:  # noqa: ANN401 - a row of customers
    if row.description is None:
        return traits.describe(profile_from_json(row.profile))
    return description_from_json(row.description)


async def load_order_traits(
    connection: AsyncConnection,
    customer_ids: Iterable[CustomerId],
    previous: Mapping[CustomerId, Snapshot],
    *,
    changes: Mapping[CustomerId, TraitChange] | None = None,
    first_heard: Collection[CustomerId] = (),
) -> dict[CustomerId, OrderTraits]:
    """What counting orders say, of those customers of whom that is not what stands.

    Args:
        connection: With the customers locked, where anything is to be stored.
        customer_ids: Of whom.
        previous: What stands.
        changes: What a batch did to their orders.
        first_heard: Those who had no order before the batch.
    """
    found: dict[CustomerId, OrderTraits] = {}
    unknown: list[CustomerId] = []
    for customer_id in customer_ids:
        before = previous.get(customer_id)
        standing = before.order_traits if before else NO_ORDERS if customer_id in first_heard else None
        change = (changes or {}).get(customer_id)
        turned = standing and (traits.turned(standing, change) if change else standing)
        if turned is None:
            unknown.append(customer_id)
        elif turned is not standing or before is None:
            found[customer_id] = turned
    return found | await _of_all_orders(connection, unknown) if unknown else found


async def _of_all_orders(connection: AsyncConnection, customer_ids: list[CustomerId]) -> dict[CustomerId, OrderTraits]:
    asked = {"customer_ids": customer_ids}
    named: dict[str, dict[CustomerId, Latest]] = {"region": {}, "channel": {}}
    for row in await connection.execute(_LATEST_NAMED, asked):
        named[row.name][row.customer_id] = Latest(Version(row.occurred_at, row.event_id), row.value)
    services: dict[CustomerId, dict[str, int]] = {}
    for row in await connection.execute(_SERVICES_ORDERED, asked):
        services.setdefault(row.customer_id, {})[row.service] = row.orders
    return {
        customer_id: OrderTraits(
            named["region"].get(customer_id), named["channel"].get(customer_id), services.get(customer_id, {})
        )
        for customer_id in customer_ids
    }
