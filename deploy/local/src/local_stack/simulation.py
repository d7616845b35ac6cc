"""Synthetic logistics traffic: seeded, without an end, every message labelled `"synthetic": true`.

Laws: the same arguments give the same bytes, and nothing here looks at a clock. Messages come in order of the time at
which they would be sent; what they tell may lie further back, because some are sent late. A doubled message is an exact
repeat. Every message is a valid event.

A few customers make most of the trade (a Zipf law with noise), trade has a week and a year, returns, complaints and
feedback follow from how late an order was.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

CURRENCY = "CNY"
_TAIL = 0.9
_WEEK = (1.15, 1.15, 1.1, 1.1, 1.15, 0.75, 0.6)  # from Monday; their mean is 1
_YEARLY_SWING = 0.25
_PEAK_DAY = 315  # November
_DAYS = 365.25
#: messages that one order is the cause of, itself included, on average: what the mean rate is reckoned with
_MESSAGES_AN_ORDER = 2.24
_CANCELLED = 0.03
_LATE = 0.12
_ANSWERED = 0.1
_SERVICE = 0.2
_SENT_LATE = 0.03
_DOUBLED = 0.02
_SENT = timedelta(seconds=2)
_SECONDS_A_DAY = 86_400.0
_REGIONS = ("CN-SH", "CN-GD", "CN-BJ", "CN-ZJ", "CN-JS", "CN-SC", "CN-HB", "CN-SD")
_INDUSTRIES = ("manufacturing", "retail", "ecommerce", "pharma", "electronics", "other")
_SERVICES = ("express", "cold_chain", "insured", "customised", "green")
_CHANNELS = ("api", "portal", "phone")


class Message(NamedTuple):
    """One message as a producer would send it."""

    type: str
    customer_id: str
    value: bytes


@dataclass(frozen=True, slots=True)
class _Customer:
    customer_id: str
    region: str
    channel: str
    services: tuple[str, ...]
    usual_amount: float
    margin: float


def simulate(*, seed: int, customers: int, start: datetime, events_per_day: float) -> Iterator[Message]:
    """Messages without an end, from `start` on, about so many a simulated day over a year."""
    return _Traffic(seed, customers, start, events_per_day).messages()


class _Traffic:
    def __init__(self, seed: int, customers: int, start: datetime, events_per_day: float) -> None:
        self._random = random.Random(seed)  # noqa: S311 - simulation, not secrecy
        self._now = start.astimezone(UTC)
        self._orders_per_day = events_per_day / _MESSAGES_AN_ORDER
        self._ids = [f"SIM-{number:06d}" for number in range(1, customers + 1)]
        # who is large has nothing to do with the number
        self._random.shuffle(self._ids)
        self._shares = list(itertools.accumulate((rank + 1) ** -_TAIL for rank in range(customers)))
        self._known: dict[str, _Customer] = {}
        self._waiting: list[tuple[datetime, int, Message]] = []
        self._count = itertools.count(1)

    def messages(self) -> Iterator[Message]:
        while True:
            rate = self._orders_per_day * _season(self._now)
            self._now += timedelta(days=self._random.expovariate(rate))
            self._order()
            # nothing that a later order causes is sent before it
            while self._waiting and self._waiting[0][0] <= self._now:
                yield heapq.heappop(self._waiting)[2]

    def _order(self) -> None:
        chance, at = self._random, self._now
        customer = self._customer(at)
        number = next(self._count)
        order_id = f"SIM-O-{number:08d}"
        amount = customer.usual_amount * chance.lognormvariate(0, 0.5)
        parcels = 1 + int(chance.expovariate(0.5))
        promised = at + timedelta(days=chance.choice((1, 2, 2, 3, 5)))
        self._send(
            at,
            "order",
            customer,
            order_id=order_id,
            amount=_money(amount),
            currency=CURRENCY,
            cost=_money(amount * (1 - customer.margin * chance.uniform(0.5, 1.5))),
            items=parcels * chance.randint(1, 12),
            parcels=parcels,
            weight_kg=round(parcels * chance.lognormvariate(1.5, 0.8), 3),
            services=list(customer.services),
            promised_at=_instant(promised),
            region=customer.region,
            channel=customer.channel,
        )
        if chance.random() < _CANCELLED:
            cancelled = at + (promised - at) * chance.random() * 0.5
            self._send(cancelled, "order_cancelled", customer, order_id=order_id, reason="not needed any more")
            return
        # a busy season is a late one
        late = chance.random() < _LATE * _season(at)
        hours = chance.lognormvariate(2.3, 0.9) if late else -chance.uniform(0.2, 20)
        delivered = promised + timedelta(hours=hours)
        self._send(delivered, "delivery", customer, order_id=order_id, delivered_at=_instant(delivered))
        self._follow(customer, order_id, amount, delivered, late=late)

    def _follow(self, customer: _Customer, order_id: str, amount: float, delivered: datetime, *, late: bool) -> None:
        """What a customer has to say about a delivery."""
        chance = self._random
        if chance.random() < (0.15 if late else 0.03):
            self._send(
                delivered + timedelta(days=chance.uniform(0.5, 10)),
                "return",
                customer,
                order_id=order_id,
                amount=_money(amount * chance.uniform(0.1, 1)),
                currency=CURRENCY,
                reason="came too late" if late else "not as ordered",
            )
        if chance.random() < (0.25 if late else 0.015):
            self._send(
                delivered + timedelta(hours=chance.uniform(0.5, 72)),
                "complaint",
                customer,
                order_id=order_id,
                category="delay" if late else "damage",
                severity=chance.randint(2, 5) if late else chance.randint(1, 3),
            )
        if chance.random() < _ANSWERED:
            self._send(
                delivered + timedelta(hours=chance.uniform(1, 120)),
                "feedback",
                customer,
                kind="nps",
                score=chance.randint(0, 7) if late else chance.choice((6, 7, 8, 8, 9, 9, 10, 10)),
            )

    def _customer(self, at: datetime) -> _Customer:
        chance = self._random
        customer_id = chance.choices(self._ids, cum_weights=self._shares)[0]
        known = self._known.get(customer_id)
        if known is not None:
            return known
        customer = self._known[customer_id] = _Customer(
            customer_id,
            region=chance.choice(_REGIONS),
            channel=chance.choice(_CHANNELS),
            services=tuple(service for service in _SERVICES if chance.random() < _SERVICE),
            usual_amount=chance.lognormvariate(6, 0.6),
            margin=chance.uniform(0.02, 0.35),
        )
        self._send(
            at,
            "customer",
            customer,
            name=f"Synthetic customer {customer_id}",
            subject_type="company",
            industry=chance.choice(_INDUSTRIES),
            region=customer.region,
            channel=customer.channel,
        )
        return customer

    def _send(self, at: datetime, kind: str, customer: _Customer, /, **fields: Any) -> None:  # noqa: ANN401 - JSON values
        """Queues a message about what happens at a moment; a few are sent late, a few twice."""
        chance = self._random
        number = next(self._count)
        body = {
            "event_id": f"SIM-E-{number:09d}",
            "type": kind,
            "customer_id": customer.customer_id,
            "occurred_at": _instant(at),
            **fields,
            "synthetic": True,
        }
        message = Message(kind, customer.customer_id, json.dumps(body, separators=(",", ":")).encode())
        sent = at + _SENT * chance.random()
        if chance.random() < _SENT_LATE:
            sent += timedelta(seconds=chance.uniform(0.01, 3) * _SECONDS_A_DAY)
        heapq.heappush(self._waiting, (sent, number, message))
        if chance.random() < _DOUBLED:
            again = sent + timedelta(seconds=chance.expovariate(1 / 600))
            heapq.heappush(self._waiting, (again, next(self._count), message))


def _season(at: datetime) -> float:
    """How much more trade there is than on average."""
    day = at.timetuple().tm_yday
    return _WEEK[at.weekday()] * (1 + _YEARLY_SWING * math.cos(2 * math.pi * (day - _PEAK_DAY) / _DAYS))


def _money(amount: float) -> str:
    return f"{max(amount, 0.01):.2f}"


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
