"""What is produced meanwhile: the synthetic traffic of `local_stack.simulation`, and all that it lacks.

Laws: the same seed gives the same messages on the same partitions. A message that conflicts with another comes after
it on its partition, so that what becomes of each does not depend on who reads faster. Rejects are few: a worker stops
where most of a partition is refused.
"""

import itertools
import json
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from tests.support import builders, histories
from tests.support.oracle import Message

from local_stack.simulation import simulate
from local_stack.topics import Topics

START: Final = datetime(2025, 1, 6, tzinfo=UTC)
CUSTOMERS: Final = 150
RATES: Final = (("USD", "2024-01-01", "7.1"), ("USD", "2025-01-10", "7.25"), ("JPY", "2024-06-01", "0.0475"))
"""Loaded by a command some time in the campaign: what came before is rejected, and replayed."""
ERASED: Final = ("GONE-1", "GONE-2")
"""Customers of whom nothing is stored."""
_EVENTS_PER_DAY: Final = 400.0
_REMEMBERED: Final = 400
_USUAL_PARTITION: Final = 0.85
_EXPECTED_TOPIC: Final = 0.9
_WITH_KEY: Final = 0.9
_TOO_LARGE: Final = 262_145


class Placed(NamedTuple):
    """A message and where it goes."""

    topic: str
    partition: int
    key: bytes | None
    message: Message


class Traffic:
    """Messages without an end."""

    def __init__(self, seed: int, topics: Topics, partitions: int) -> None:
        self._random = random.Random(f"{seed} load")
        self._topics = topics
        self._partitions = partitions
        self._regular = simulate(seed=seed, customers=CUSTOMERS, start=START, events_per_day=_EVENTS_PER_DAY)
        self._count = itertools.count(1)
        # what was sent lately, as it was placed
        self._sent: list[tuple[dict[str, Any], Placed]] = []

    def __iter__(self) -> Iterator[Placed]:
        extras = (
            (0.03, self._repeat),
            (0.015, self._conflict),
            (0.04, self._invalid),
            (0.02, self._late),
            (0.02, self._revised),
            (0.02, self._foreign),
            (0.015, self._taken_back),
            (0.01, self._suppressed),
            (0.02, self._enveloped),
        )
        for regular in self._regular:
            event = json.loads(regular.value)
            yield self._send(event, Message(regular.value))
            for share, extra in extras:
                if self._random.random() < share:
                    yield from extra()

    # what the simulation lacks

    def _repeat(self) -> Iterator[Placed]:
        """The same bytes once more, on any partition."""
        _, placed = self._random.choice(self._sent)
        yield self._anywhere(placed.key, placed.message)

    def _conflict(self) -> Iterator[Placed]:
        """Another content under a known id."""
        event, placed = self._random.choice(self._sent)
        other = event | {"said_otherwise": next(self._count)}
        yield placed._replace(message=builders.as_message(other))

    def _invalid(self) -> Iterator[Placed]:
        chance = self._random
        # one that is too large now and then: they are long
        reasons = [*histories.REJECT_REASONS, *histories.REJECT_REASONS]
        reasons.remove("too_large")
        yield self._anywhere(b"C-1" if chance.random() < _WITH_KEY else None, self._refused(chance.choice(reasons)))

    def _refused(self, reason: str) -> Message:
        chance = self._random
        order = {"event_id": "never-applied", "order_id": "never-applied", "customer_id": self._customer()}
        match reason:
            case "empty":
                return Message(chance.choice((None, b"")))
            case "too_large":
                return Message(builders.as_json(builders.an_order(**order)).ljust(_TOO_LARGE))
            case "invalid_json":
                return Message(chance.choice(histories.NOT_JSON))
            case "schema":
                build, field, values = chance.choice(histories.MALFORMED_FIELDS)
                named = {"event_id": "never-applied"} | {field: chance.choice(values)}
                return builders.as_message(build(**named))
            case "unknown_type":
                return builders.as_message(builders.an_order(**order, type=chance.choice(histories.UNKNOWN_TYPES)))
            case "too_old":
                instant = chance.choice(histories.TOO_OLD_TIMES)
                return builders.as_message(builders.an_order(**order, occurred_at=instant))
            case "future":
                instant = chance.choice(histories.FUTURE_TIMES)
                return builders.as_message(builders.an_order(**order, ordered_at=instant))
            case _:
                currency = chance.choice(histories.UNKNOWN_CURRENCIES)
                return builders.as_message(builders.an_order(**order, currency=currency))

    def _late(self) -> Iterator[Placed]:
        """What happened long ago, up to beyond the longest window."""
        at = _instant(self._now() - timedelta(days=self._random.uniform(2, 400)))
        yield self._new(builders.an_order, order_id=f"LATE-{next(self._count)}", amount=self._amount(), occurred_at=at)

    def _revised(self) -> Iterator[Placed]:
        """A further version of an order, a cancellation among them; half of them older than what counts."""
        orders = [event for event, _ in self._sent if event["type"] == "order"]
        if not orders:
            return
        order = self._random.choice(orders)
        moved = datetime.fromisoformat(order["occurred_at"]) + timedelta(hours=self._random.uniform(-48, 48))
        named = {"customer_id": order["customer_id"], "order_id": order["order_id"], "occurred_at": _instant(moved)}
        if self._random.random() < 0.3:  # noqa: PLR2004 - some
            yield self._new(builders.a_cancellation, **named)
        else:
            yield self._new(builders.an_order, **named, amount=self._amount())

    def _foreign(self) -> Iterator[Placed]:
        """An amount in another currency, whose rate may not be there yet."""
        named = {"amount": str(self._random.randint(1, 90_000)), "currency": self._random.choice(("USD", "JPY"))}
        yield self._new(builders.an_order, **named, order_id=f"FOREIGN-{next(self._count)}", keep=False)

    def _taken_back(self) -> Iterator[Placed]:
        """An occurrence and its retraction, whichever comes first."""
        customer_id, event_id = self._customer(), f"TAKEN-{next(self._count)}"
        build = self._random.choice((builders.a_return, builders.a_complaint, builders.a_feedback))
        both = [
            self._new(build, customer_id=customer_id, event_id=event_id),
            self._new(builders.a_retraction, customer_id=customer_id, retracts=event_id),
        ]
        self._random.shuffle(both)
        yield from both

    def _suppressed(self) -> Iterator[Placed]:
        yield self._new(builders.a_complaint, customer_id=self._random.choice(ERASED), keep=False)

    def _enveloped(self) -> Iterator[Placed]:
        """A CloudEvent, in either mode."""
        event = builders.a_feedback(
            event_id=self._event_id(), customer_id=self._customer(), occurred_at=_instant(self._now()), score=9
        )
        mode = self._random.choice(("structured", "binary"))
        message = builders.as_message(event, mode="structured" if mode == "structured" else "binary")
        yield self._anywhere(None, message)

    # sending

    def _new(self, build: Any, *, keep: bool = True, **fields: Any) -> Placed:  # noqa: ANN401 - a builder of JSON values
        named = {"event_id": self._event_id(), "customer_id": self._customer(), "occurred_at": _instant(self._now())}
        event = build(**(named | fields))
        return self._send(event, builders.as_message(event), keep=keep)

    def _send(self, event: dict[str, Any], message: Message, *, keep: bool = True) -> Placed:
        chance = self._random
        topic, key = self._topics.route(message.value or b"")
        if chance.random() >= _EXPECTED_TOPIC:
            topic = chance.choice(self._topics.inputs)
        partition = zlib.crc32(key or b"") % self._partitions
        if chance.random() >= _USUAL_PARTITION:
            partition = chance.randrange(self._partitions)
        placed = Placed(topic, partition, key if chance.random() < _WITH_KEY else None, message)
        if keep:
            self._sent.append((event, placed))
            if len(self._sent) > _REMEMBERED:
                self._sent.pop(0)
        return placed

    def _anywhere(self, key: bytes | None, message: Message) -> Placed:
        chance = self._random
        return Placed(chance.choice(self._topics.inputs), chance.randrange(self._partitions), key, message)

    def _event_id(self) -> str:
        return f"X-{next(self._count)}"

    def _customer(self) -> str:
        known = [event["customer_id"] for event, _ in self._sent]
        return str(self._random.choice(known)) if known else "SIM-000001"

    def _amount(self) -> str:
        return f"{self._random.lognormvariate(6, 1):.2f}"

    def _now(self) -> datetime:
        """The simulation's time, as far as it has come."""
        return datetime.fromisoformat(self._sent[-1][0]["occurred_at"]) if self._sent else START


def rates_file() -> str:
    """The rates as `ingest-worker load-rates` reads them."""
    return "currency,day,rate\n" + "".join(f"{','.join(rate)}\n" for rate in RATES)


def by_partition(placed: Sequence[Placed]) -> Mapping[tuple[str, int], int]:
    """How many messages each partition gets."""
    counts: dict[tuple[str, int], int] = {}
    for each in placed:
        counts[each.topic, each.partition] = counts.get((each.topic, each.partition), 0) + 1
    return counts


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
