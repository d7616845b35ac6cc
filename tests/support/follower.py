"""A consumer of the topic of changes, as plain as docs/events.md tells it, and what compaction leaves of a topic.

Laws: it knows nothing but what it reads; it applies messages in the order of their partition, and repeats cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Read(NamedTuple):
    """A message of one partition."""

    partition: int
    key: bytes
    value: bytes | None


@dataclass(slots=True)
class Known:
    """What the follower has of a customer."""

    sequence: int
    side: dict[str, str]
    partition: int


@dataclass(slots=True)
class Follower:
    """Where everyone stands, by what was read."""

    known: dict[str, Known] = field(default_factory=dict)
    began: dict[int, str] = field(default_factory=dict)
    """By partition, the full snapshot that has begun there."""
    mentioned: dict[int, set[str]] = field(default_factory=dict)
    """By partition, who was heard of since."""
    completed: list[tuple[str, int]] = field(default_factory=list)
    """Snapshots with the partition in which they ended."""

    def read(self, messages: Iterable[Read]) -> None:
        for message in messages:
            if message.value is None:
                self.known.pop(message.key.decode(), None)
                continue
            body = json.loads(message.value)
            match body["kind"]:
                case "change" | "snapshot":
                    self._apply(message.partition, body)
                case "snapshot_begin":
                    self.began[message.partition] = body["snapshot_id"]
                    self.mentioned[message.partition] = set()
                case "snapshot_end":
                    self._end(message.partition, body)
                case _:
                    continue  # a kind added later

    def _apply(self, partition: int, body: dict[str, Any]) -> None:
        customer = body["customer_id"]
        if body["kind"] == "change" or body["snapshot_id"] == self.began.get(partition):
            self.mentioned.setdefault(partition, set()).add(customer)
        known = self.known.get(customer)
        if known is None or body["sequence"] > known.sequence:
            self.known[customer] = Known(body["sequence"], body["after"], partition)

    def _end(self, partition: int, body: dict[str, Any]) -> None:
        if self.began.pop(partition, None) != body["snapshot_id"]:
            return
        gone = [
            customer
            for customer, known in self.known.items()
            if known.partition == partition and customer not in self.mentioned[partition]
        ]
        for customer in gone:
            del self.known[customer]
        self.completed.append((body["snapshot_id"], partition))

    @property
    def sides(self) -> dict[str, dict[str, str]]:
        return {customer: known.side for customer, known in self.known.items()}


def compacted(messages: Iterable[Read]) -> list[Read]:
    """What the broker keeps in the end: of each key in each partition the last message, where it was."""
    listed = list(messages)
    last = {(message.partition, message.key): number for number, message in enumerate(listed)}
    return [message for number, message in enumerate(listed) if last[message.partition, message.key] == number]
