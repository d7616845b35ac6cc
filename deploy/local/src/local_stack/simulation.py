"""Synthetic logistics traffic: seeded, without an end, every message labelled `"synthetic": true`.

Laws: the same arguments give the same bytes, and nothing here looks at a clock. Messages come in order of the time at
which they would be sent; what they tell may lie further back, because some are sent late. A doubled message is an exact
repeat. Every message is a valid event.

A few customers make most of the trade (a Zipf law with noise), trade has a week and a year, returns, complaints and
feedback follow from how late an order was, and some of them are taken back. Customers are companies with Chinese or
English names that say that they are synthetic. Ids begin with a prefix, so that two streams of different prefixes have
none in common. A day of trade may be told as any stretch of time, for a time lapse.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from segmentation.money import MINOR_UNITS

CURRENCY = "CNY"
PREFIX = "SIM"
_NO_RATES: Mapping[str, float] = MappingProxyType({})
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
_TAKEN_BACK = 0.05
_FOREIGN = 0.25
_CHINESE = 0.6
_SERVICE = 0.2
_SENT_LATE = 0.03
_DOUBLED = 0.02
_A_DAY = timedelta(days=1)
#: of days
_SENT = 2 / 86_400
_REPEATED = 600 / 86_400
#: the fewest and the most orders, of the usual rate, that a steady stream makes to come back to its rate
_SLOWEST, _FASTEST = 0.25, 3.0
_REGIONS = ("CN-SH", "CN-GD", "CN-BJ", "CN-ZJ", "CN-JS", "CN-SC", "CN-HB", "CN-SD")
_INDUSTRIES = ("manufacturing", "retail", "ecommerce", "pharma", "electronics", "other")
_SERVICES = ("express", "cold_chain", "insured", "customised", "green")
_CHANNELS = ("api", "portal", "phone")
_CONTRACTS = ("spot", "annual", "framework")
_CITIES = (("上海", "Shanghai"), ("深圳", "Shenzhen"), ("宁波", "Ningbo"), ("成都", "Chengdu"), ("青岛", "Qingdao"))
_STYLES = (
    ("宏达", "Grand Reach"),
    ("恒通", "Evergo"),
    ("锦程", "Brocade Way"),
    ("远航", "Far Sail"),
    ("瑞丰", "Ripe Field"),
)
_TRADES = {
    "manufacturing": ("机械制造", "Machinery"),
    "retail": ("商贸", "Trading"),
    "ecommerce": ("电子商务", "E-Commerce"),
    "pharma": ("医药", "Pharmaceuticals"),
    "electronics": ("电子科技", "Electronics"),
    "other": ("实业", "Industries"),
}


class Message(NamedTuple):
    """One message as a producer would send it."""

    type: str
    customer_id: str
    value: bytes
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class _Customer:
    customer_id: str
    region: str
    channel: str
    currency: str
    services: tuple[str, ...]
    usual_amount: float
    margin: float


def simulate(*, seed: int, customers: int, start: datetime, events_per_day: float) -> Iterator[Message]:
    """Messages without an end, from `start` on, about so many a simulated day over a year."""
    return Traffic(seed=seed, customers=customers, start=start, events_per_day=events_per_day).messages()


class Traffic:
    """One stream of messages, and who is in it.

    What it holds is bounded: its customers, and the messages of about two weeks of trade.
    """

    def __init__(
        self,
        *,
        seed: int,
        customers: int,
        start: datetime,
        events_per_day: float,
        day: timedelta = _A_DAY,
        steady: bool = False,
        prefix: str = PREFIX,
        currency: str = CURRENCY,
        foreign: Mapping[str, float] = _NO_RATES,
    ) -> None:
        """A day of trade is told as lasting `day`.

        A `steady` stream comes back to its mean rate within days, where another keeps it over a year only. Some
        customers pay in a `foreign` currency, given with its rate.
        """
        self._random = random.Random(seed)  # noqa: S311 - simulation, not secrecy
        self._start = self._now = start.astimezone(UTC)
        self._events_per_day = events_per_day
        self._day = day
        self._steady = steady
        self._prefix = prefix
        self._rates = {currency: 1.0, **foreign}
        self._currency = currency
        self._foreign = sorted(foreign)
        self._ids = [f"{prefix}-{number:06d}" for number in range(1, customers + 1)]
        # who is large has nothing to do with the number
        self._random.shuffle(self._ids)
        self._shares = list(itertools.accumulate((rank + 1) ** -_TAIL for rank in range(customers)))
        self._known: dict[str, _Customer] = {}
        self._waiting: list[tuple[datetime, int, Message]] = []
        self._count = itertools.count(1)
        self._sent = 0

    def largest(self, count: int) -> list[str]:
        """The customers who trade most often, which takes nothing to know."""
        return self._ids[:count]

    def messages(self) -> Iterator[Message]:
        """The messages from here on, without an end."""
        while True:
            self._now += self._days(self._random.expovariate(self._orders_a_day()))
            self._order()
            # nothing that a later order causes is sent before it
            while self._waiting and self._waiting[0][0] <= self._now:
                self._sent += 1
                yield heapq.heappop(self._waiting)[2]

    def _orders_a_day(self) -> float:
        days = (self._now - self._start) / self._day
        usual = self._events_per_day / _MESSAGES_AN_ORDER * _season(self._start + timedelta(days=days))
        if not self._steady:
            return usual
        behind = days - self._sent / self._events_per_day
        return usual * min(max(1 + 2 * behind, _SLOWEST), _FASTEST)

    def _days(self, days: float) -> timedelta:
        """So many days of trade, as they are told."""
        return self._day * days

    def _order(self) -> None:
        chance, at = self._random, self._now
        customer = self._customer(at)
        number = next(self._count)
        order_id = f"{self._prefix}-O-{number:08d}"
        amount = customer.usual_amount * chance.lognormvariate(0, 0.5)
        parcels = 1 + int(chance.expovariate(0.5))
        promised = at + self._days(chance.choice((1, 2, 2, 3, 5)))
        self._send(
            at,
            "order",
            customer,
            order_id=order_id,
            amount=self._money(amount, customer),
            currency=customer.currency,
            cost=self._money(amount * (1 - customer.margin * chance.uniform(0.5, 1.5)), customer),
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
        late = chance.random() < _LATE * _season(self._start + timedelta(days=(at - self._start) / self._day))
        hours = chance.lognormvariate(2.3, 0.9) if late else -chance.uniform(0.2, 20)
        delivered = promised + self._days(hours / 24)
        self._send(delivered, "delivery", customer, order_id=order_id, delivered_at=_instant(delivered))
        self._follow(customer, order_id, amount, delivered, late=late)

    def _follow(self, customer: _Customer, order_id: str, amount: float, delivered: datetime, *, late: bool) -> None:
        """What a customer has to say about a delivery."""
        chance = self._random
        if chance.random() < (0.15 if late else 0.03):
            self._say(
                delivered + self._days(chance.uniform(0.5, 10)),
                "return",
                customer,
                order_id=order_id,
                amount=self._money(amount * chance.uniform(0.1, 1), customer),
                currency=customer.currency,
                reason="came too late" if late else "not as ordered",
            )
        if chance.random() < (0.25 if late else 0.015):
            self._say(
                delivered + self._days(chance.uniform(0.5, 72) / 24),
                "complaint",
                customer,
                order_id=order_id,
                category="delay" if late else "damage",
                severity=chance.randint(2, 5) if late else chance.randint(1, 3),
            )
        if chance.random() < _ANSWERED:
            self._say(
                delivered + self._days(chance.uniform(1, 120) / 24),
                "feedback",
                customer,
                kind=chance.choice(("nps", "csat", "survey")),
                score=chance.randint(0, 7) if late else chance.choice((6, 7, 8, 8, 9, 9, 10, 10)),
            )

    def _say(self, at: datetime, kind: str, customer: _Customer, /, **fields: Any) -> None:  # noqa: ANN401 - JSON values
        """Something that may be taken back later."""
        event_id = self._send(at, kind, customer, **fields)
        if self._random.random() < _TAKEN_BACK:
            later = at + self._days(self._random.uniform(0.1, 3))
            self._send(later, "retraction", customer, retracts=event_id, reason="entered by mistake")

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
            currency=chance.choice(self._foreign) if self._foreign and chance.random() < _FOREIGN else self._currency,
            services=tuple(service for service in _SERVICES if chance.random() < _SERVICE),
            usual_amount=chance.lognormvariate(6, 0.6),
            margin=chance.uniform(0.02, 0.35),
        )
        industry = chance.choice(_INDUSTRIES)
        self._send(
            at,
            "customer",
            customer,
            name=self._name(industry),
            subject_type="company",
            industry=industry,
            region=customer.region,
            channel=customer.channel,
            contract_type=chance.choice(_CONTRACTS),
            attributes={"synthetic": "true"},
        )
        return customer

    def _name(self, industry: str) -> str:
        chance = self._random
        parts = (chance.choice(_CITIES), chance.choice(_STYLES), _TRADES[industry])
        if chance.random() < _CHINESE:
            return "".join(chinese for chinese, _ in parts) + "有限公司（模拟）"  # noqa: RUF001 - Chinese writes so
        return " ".join(english for _, english in parts) + " Ltd (synthetic)"

    def _money(self, amount: float, customer: _Customer) -> str:
        """An amount of the base currency in the customer's."""
        decimals = MINOR_UNITS[customer.currency]
        return f"{max(amount / self._rates[customer.currency], 10**-decimals):.{decimals}f}"

    def _send(self, at: datetime, kind: str, customer: _Customer, /, **fields: Any) -> str:  # noqa: ANN401 - JSON values
        """Queues a message about what happens at a moment, a few to be sent late, a few twice; its event id."""
        chance = self._random
        number = next(self._count)
        event_id = f"{self._prefix}-E-{number:09d}"
        body = {
            "event_id": event_id,
            "type": kind,
            "customer_id": customer.customer_id,
            "occurred_at": _instant(at),
            **fields,
            "synthetic": True,
        }
        value = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        sent_at = at + self._days(_SENT * chance.random())
        if chance.random() < _SENT_LATE:
            sent_at += self._days(chance.uniform(0.01, 3))
        heapq.heappush(self._waiting, (sent_at, number, Message(kind, customer.customer_id, value, sent_at)))
        if chance.random() < _DOUBLED:
            again = sent_at + self._days(chance.expovariate(1 / _REPEATED))
            heapq.heappush(self._waiting, (again, next(self._count), Message(kind, customer.customer_id, value, again)))
        return event_id


def _season(at: datetime) -> float:
    """How much more trade there is than on average."""
    day = at.timetuple().tm_yday
    return _WEEK[at.weekday()] * (1 + _YEARLY_SWING * math.cos(2 * math.pi * (day - _PEAK_DAY) / _DAYS))


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
