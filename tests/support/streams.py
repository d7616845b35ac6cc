"""A stream of messages through Kafka into the ledger of a site, and what must have come of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from local_stack.kafka import EmbeddedKafka

from .kafka import produce, spread
from .ledgers import expected, judged, state_of
from .oracle import Message, Oracle, Setting
from .workers import HOUSE, Site

PARTITIONS: Final = 4
"""Of each topic of a site."""


async def deliver(site: Site, kafka: EmbeddedKafka, messages: Sequence[Message]) -> None:
    """Produces on all partitions of the topic of orders."""
    await produce(kafka.bootstrap_servers, spread(messages, [site.settings["TOPIC_ORDERS"]], PARTITIONS))


async def require_exactly(site: Site, messages: Sequence[Message]) -> None:
    """Waits until all is in, and holds everything against the oracle: nothing lost, nothing counted twice."""
    oracle = Oracle(Setting(HOUSE.base_currency, HOUSE.time_zone, HOUSE.clock))
    status = await site.is_in(len(messages))
    _, counts = judged(oracle, messages)
    assert {outcome.value: number for outcome, number in status.events.items()} == counts
    assert await state_of(site.store) == expected(oracle)
