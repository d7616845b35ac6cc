"""Live synthetic events, so many a second, into the running stack, until it stops.

Laws: the pace is kept on average, and what could not be sent in time (the broker was away, the machine asleep) is left
out, not made up for in a burst. Memory is bounded: little waits in the client, and the stream holds two weeks of trade.
Every run has ids of its own, also on a database that it shares with other data directories. No event is told as
occurring after it is sent, nor after the machine's time.

How time is told depends on the clock of the data:

    system  what occurs, occurs now. A day of trade lasts seconds, so that orders are delivered, returned and complained
            about while somebody watches.
    event   the day after the last one of the data is the first, and days pass as quickly: windows roll, customers
            fall silent, grace ends. Should that reach today, it goes on as with `system`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import Protocol, Self

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from local_stack.api import Api, IngestStatus
from local_stack.data_directory import DataDirectory
from local_stack.failures import StackFailed
from local_stack.replay import Broker, producer_settings
from local_stack.simulation import PREFIX, Message, Traffic
from local_stack.topics import Topics
from segmentation.money import MINOR_UNITS

DEFAULT_SEED = 20_250_106
#: the most messages that wait in the client for a broker that is away
MOST_WAITING = 10_000
#: the most messages that a broker that forgets is ahead of its reader
MOST_UNREAD = 5_000
_CUSTOMERS_PER_RATE = 10
_FEWEST_CUSTOMERS, _MOST_CUSTOMERS = 100, 50_000
_TICK_SECONDS = 0.05
_ASK_SECONDS = 1.0
_FLUSH_SECONDS = 1.0
#: what is further behind is left out
_MOST_BEHIND_SECONDS = 2.0
#: a time line further from the machine's time is begun anew
_MOST_APART = timedelta(minutes=5)
_WITHOUT_HISTORY = timedelta(days=365)
_A_DAY = timedelta(days=1)
_REMEMBERED = "simulation.json"
_QUIET = logging.getLogger("local_stack.live.client")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be simulated."""

    events_per_second: float
    seed: int
    #: `system` or `event`
    clock: str
    currency: str


@dataclass(frozen=True, slots=True)
class TimeLine:
    """When it is in the stream, and how that relates to the machine's time."""

    start: datetime
    customers: int
    #: how long a day of trade lasts, as it is told
    day: timedelta
    #: seconds told in a second
    speed: float

    @classmethod
    def of(cls, wanted: Wanted, *, as_of: date | None, now: datetime) -> TimeLine:
        """The one that fits the data's clock."""
        customers = int(min(max(wanted.events_per_second * _CUSTOMERS_PER_RATE, _FEWEST_CUSTOMERS), _MOST_CUSTOMERS))
        # one event a customer and day
        lasts = customers / wanted.events_per_second
        if wanted.clock == "event":
            last = as_of if as_of is not None else (now - _WITHOUT_HISTORY).date()
            start = datetime(last.year, last.month, last.day, tzinfo=UTC) + _A_DAY
            if start <= now - _A_DAY:
                return cls(start, customers, _A_DAY, _A_DAY.total_seconds() / lasts)
        return cls(now, customers, timedelta(seconds=lasts), 1.0)

    @property
    def seconds_a_day(self) -> float:
        """How many seconds a day of trade takes."""
        return self.day.total_seconds() / self.speed

    def is_over(self, told: datetime, now: datetime) -> bool:
        """Whether it has come to a time that has not come, or, where it tells the present, has fallen far behind."""
        if self.speed > 1:
            return told > now
        return abs(told - now) > _MOST_APART


class Pace:
    """When it is on a time line, by a steady clock that knows only seconds."""

    def __init__(self, line: TimeLine, steady_seconds: float) -> None:
        self._line = line
        self._begun = self._looked = steady_seconds

    def at(self, steady_seconds: float) -> datetime:
        """The moment told now; a look after a long while finds that the time in between has not passed."""
        missed = steady_seconds - self._looked - _MOST_BEHIND_SECONDS
        if missed > 0:
            self._begun += missed
        self._looked = steady_seconds
        return self._line.start + timedelta(seconds=(steady_seconds - self._begun) * self._line.speed)

    def wait_at(self, told: datetime) -> None:
        """No later than this moment, which could not be got through."""
        self._begun = self._looked - (told - self._line.start).total_seconds() / self._line.speed


@dataclass(frozen=True, slots=True)
class Figures:
    """How it goes."""

    sent: int
    lag: int | None
    applied_per_second: float | None
    #: customers by computed tier
    tiers: Mapping[str, int]
    as_of: str | None
    #: whom it waits for, if anybody
    waiting_for: str | None = None


class Display(Protocol):
    """Who is told how it goes."""

    def show(self, figures: Figures) -> None:
        """Called often."""

    def close(self) -> None:
        """Leave the terminal as it was; idempotent."""


def next_run(remembered: Mapping[str, int] | None, now: datetime) -> int:
    """The name of a run: the second of its beginning, and always greater than those before.

    >>> next_run(None, datetime(2026, 11, 22, 7, 21, 5, tzinfo=UTC))
    261122072105
    >>> next_run({"last_run": 261122072105}, datetime(2026, 11, 22, 7, 21, 5, tzinfo=UTC))
    261122072106
    """
    last = remembered.get("last_run", 0) if remembered is not None else 0
    return max(int(f"{now.astimezone(UTC):%y%m%d%H%M%S}"), last + 1)


class Simulation:
    """Synthetic events on their way into one running stack."""

    def __init__(
        self,
        wanted: Wanted,
        *,
        topics: Topics,
        broker: Broker,
        api: Api,
        directory: DataDirectory,
        rates: Callable[[date], Mapping[str, float]],
        now: Callable[[], datetime],
        pause: Callable[[float], None],
        steady_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rates` are what other currencies are worth on a day, as far as any are loaded.

        `pause` waits, and raises when the stack is to stop or one of its processes keeps dying.
        """
        self._wanted = wanted
        self._topics = topics
        self._broker = broker
        self._api = api
        self._directory = directory
        self._now = now
        self._pause = pause
        self._steady_seconds = steady_seconds
        self._acknowledged = 0
        as_of = self._await_status().as_of
        first_day = TimeLine.of(wanted, as_of=_day(as_of), now=now()).start.date()
        # a rate holds from its day on; where the business day is, it may still be yesterday
        known = rates(first_day - _A_DAY)
        self._foreign = {name: rate for name, rate in known.items() if name in MINOR_UNITS and name != wanted.currency}
        self._begin(as_of)

    @property
    def events_per_second(self) -> float:
        """The pace."""
        return self._wanted.events_per_second

    @property
    def prefix(self) -> str:
        """What the ids of customers, orders and events begin with."""
        return self._prefix

    @property
    def line(self) -> TimeLine:
        """How time is told."""
        return self._line

    def largest(self, count: int) -> list[str]:
        """The customers who will have traded most."""
        return self._traffic.largest(count)

    def run(self, display: Display) -> None:
        """Send events until `pause` raises."""
        producer = Producer(
            {
                **producer_settings(self._broker),
                # a repeated message is known by its id, and an idempotent client gives up for good after some failures
                "enable.idempotence": False,
                "acks": "all",
                "queue.buffering.max.messages": MOST_WAITING,
                "reconnect.backoff.max.ms": 1_000,
            },
            logger=_QUIET,
        )
        try:
            with Watch(self._api.url, self._api.key) as watch:
                self._send(producer, watch, display)
        finally:
            # what a broker that answers takes at once; the rest is left out
            producer.flush(_FLUSH_SECONDS)
            producer.purge()

    def _begin(self, as_of: str | None) -> None:
        """A stream with a time line and ids of its own."""
        now, wanted = self._now(), self._wanted
        run = next_run(self._directory.read(_REMEMBERED), now)
        # before anything is sent: an id is used once
        self._directory.write(_REMEMBERED, {"last_run": run})
        self._prefix = f"{PREFIX}-{run}"
        self._line = TimeLine.of(wanted, as_of=_day(as_of), now=now)
        self._traffic = Traffic(
            seed=wanted.seed,
            customers=self._line.customers,
            start=self._line.start,
            events_per_day=self._line.customers,
            day=self._line.day,
            steady=True,
            prefix=self._prefix,
            currency=wanted.currency,
            foreign=self._foreign,
        )
        self._messages: Iterator[Message] = self._traffic.messages()
        self._next = next(self._messages)
        self._pace = Pace(self._line, self._steady_seconds())

    def _send(self, producer: Producer, watch: Watch, display: Display) -> None:
        since_asked, asked = 0, watch.seen.number
        while True:
            producer.poll(0)
            seen = watch.seen
            if seen.number != asked:
                since_asked, asked = 0, seen.number
            now, told = self._now(), self._pace.at(self._steady_seconds())
            if self._line.is_over(told, now):
                self._begin(now.date().isoformat())  # whatever the worker has read so far
                continue
            room = MOST_UNREAD - since_asked - seen.lag if self._broker.forgets else MOST_WAITING
            waiting_for = None
            while self._next.sent_at <= told:
                if room <= 0:
                    waiting_for = "the worker"
                elif not self._produce(producer, self._next):
                    waiting_for = "Kafka"
                if waiting_for is not None:
                    self._pace.wait_at(self._next.sent_at)
                    break
                self._next = next(self._messages)
                since_asked += 1
                room -= 1
            display.show(seen.figures(self._acknowledged, waiting_for))
            self._pause(_TICK_SECONDS)

    def _produce(self, producer: Producer, message: Message) -> bool:
        topic, key = self._topics.route(message.value)
        try:
            producer.produce(topic, message.value, key=key, on_delivery=self._delivered)
        except BufferError:
            return False
        except KafkaException as refused:
            raise StackFailed(f"Kafka's client does not take synthetic events ({refused}).") from refused
        return True

    def _delivered(self, error: KafkaError | None, _: Delivered) -> None:
        # what a broker did not take in minutes is left out
        if error is None:
            self._acknowledged += 1

    def _await_status(self) -> IngestStatus:
        while (status := self._api.find_status()) is None:
            self._pause(_ASK_SECONDS)
        return status


def _day(as_of: str | None) -> date | None:
    return None if as_of is None else date.fromisoformat(as_of)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the API said last."""

    number: int = 0
    status: IngestStatus | None = None
    tiers: Mapping[str, int] = field(default_factory=dict)
    applied_per_second: float | None = None

    @property
    def lag(self) -> int:
        """Messages that wait for the worker, as far as is known."""
        return (self.status.lag if self.status is not None else None) or 0

    def figures(self, sent: int, waiting_for: str | None) -> Figures:
        """With what the sender knows."""
        status = self.status
        return Figures(
            sent,
            status.lag if status is not None else None,
            self.applied_per_second,
            self.tiers,
            status.as_of if status is not None else None,
            waiting_for,
        )


class Watch:
    """Asks the API now and then, on a thread of its own, so that a slow answer holds nobody up."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.seen = Seen()
        self._url = url
        self._key = key
        self._ended = threading.Event()
        # one that waits for an answer is not waited for
        self._thread = threading.Thread(target=self._ask_on, name="watch", daemon=True)
        self._applied: deque[tuple[float, int]] = deque(maxlen=6)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_FLUSH_SECONDS)

    def _ask_on(self) -> None:
        with Api(self._url, self._key) as api:
            while not self._ended.is_set():
                self._ask(api)
                self._ended.wait(_ASK_SECONDS)

    def _ask(self, api: Api) -> None:
        try:
            status = api.find_status()
            tiers = api.tiers() if status is not None else {"tiers": []}
        except StackFailed:  # it is being started again
            return
        if status is None:
            return
        self._applied.append((time.monotonic(), status.events["applied"]))
        (earlier, before), (later, after) = self._applied[0], self._applied[-1]
        self.seen = Seen(
            self.seen.number + 1,
            status,
            {row["tier"]: row["customers"] for row in tiers["tiers"]},
            (after - before) / (later - earlier) if later > earlier else None,
        )
