"""Which topic and key a message gets, and which topics there are.

Laws: the names are the services' own settings. What cannot be read goes to the topic of orders without a key: to
judge it is the worker's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

_ORDERS = "TOPIC_ORDERS"
_CHANGES = "TOPIC_CHANGES"
_INPUTS = {
    _ORDERS: "logistics.orders",
    "TOPIC_RETURNS": "logistics.returns",
    "TOPIC_COMPLAINTS": "logistics.complaints",
    "TOPIC_FEEDBACK": "logistics.feedback",
    "TOPIC_CUSTOMERS": "logistics.customers",
}
_OUTPUTS = {_CHANGES: "segmentation.changes", "TOPIC_DEAD_LETTERS": "segmentation.dead-letters"}
_SETTING_BY_TYPE = {
    "return": "TOPIC_RETURNS",
    "complaint": "TOPIC_COMPLAINTS",
    "feedback": "TOPIC_FEEDBACK",
    "customer": "TOPIC_CUSTOMERS",
}


@dataclass(frozen=True, slots=True)
class Topics:
    """The names in force, by setting."""

    names: Mapping[str, str]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Topics:
        """As the environment sets them."""
        return cls({setting: environment.get(setting) or name for setting, name in (_INPUTS | _OUTPUTS).items()})

    @property
    def inputs(self) -> list[str]:
        """The topics that events travel on."""
        return [self.names[setting] for setting in _INPUTS]

    @property
    def all(self) -> list[str]:
        """Every topic."""
        return list(self.names.values())

    @property
    def compacted(self) -> list[str]:
        """The topics of which the last message of each key is kept for ever."""
        return [self.names[_CHANGES]]

    def route(self, line: bytes) -> tuple[str, bytes | None]:
        """The topic by type, and the customer id as the key."""
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            return self.names[_ORDERS], None
        event_type, customer_id = event.get("type"), event.get("customer_id")
        if (
            "specversion" in event
        ):  # a CloudEvent: the type after its last dot, the customer in its data or as its subject
            data = event.get("data")
            event_type = event_type.rpartition(".")[2] if isinstance(event_type, str) else None
            customer_id = (isinstance(data, dict) and data.get("customer_id")) or event.get("subject")
        setting = _SETTING_BY_TYPE.get(event_type, _ORDERS) if isinstance(event_type, str) else _ORDERS
        # a lone surrogate has no UTF-8
        key = customer_id.encode("utf-8", "replace") if isinstance(customer_id, str) else None
        return self.names[setting], key
