"""Whoever follows the topic of changes ends at the truth, wherever it joined and whatever happened to the relay.

The real maker of full snapshots and the real messages, over a feed in memory whose rows get positions as in the store;
customers change and vanish between any two steps.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from tests.support.follower import Follower, Read, compacted

from ingest_worker.full_snapshots import SnapshotMaker
from ingest_worker.producing import change_message, produce
from segmentation.announcements import Change
from segmentation.assessment import Snapshot
from segmentation.feeds import ChangeAnnouncement, FullSnapshot, SnapshotChunk
from segmentation.fields import CustomerId
from segmentation.segments import Lifecycle
from segmentation.tiering import Tier, TierHistory

DAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
TOPIC = "changes"
PARTITIONS = 3
AT_ONCE = 3
CHUNK = 2


def standing(customer: str, tier: Tier, level: int) -> Snapshot:
    return Snapshot(
        customer_id=CustomerId(customer),
        as_of=DAY,
        due_on=DAY + timedelta(days=1),
        value=None,
        history=TierHistory(),
        tier=tier,
        tier_since=DAY,
        lifecycle=Lifecycle.ACTIVE,
        segment="core",
        segment_since=DAY,
        segment_reasons=(),
        service_level=f"level-{level}",
        service_reasons=(),
        policy_version=1,
        updated_at=NOW,
    )


class _Placed(NamedTuple):
    partition: int


@dataclass
class Topic:
    """A broker's topic, and the producer that writes to it."""

    messages: list[Read] = field(default_factory=list)

    async def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        partition: int | None,
    ) -> Any:
        assert key is not None
        number = sum(key) % PARTITIONS if partition is None else partition
        self.messages.append(Read(number, key, value))

        async def acknowledged() -> _Placed:
            return _Placed(number)

        return acknowledged()

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(PARTITIONS))


@dataclass
class World:
    """The store, a feed of changes, and a relay that can die at any step."""

    customers: dict[CustomerId, Snapshot] = field(default_factory=dict)
    changes: list[ChangeAnnouncement] = field(default_factory=list)
    """In the order in which they were committed; those beyond `placed` have no position yet."""
    placed: int = 0
    relayed: int = 0
    asked: list[FullSnapshot] = field(default_factory=list)
    topic: Topic = field(default_factory=Topic)
    maker: SnapshotMaker | None = None
    meanwhile: list[tuple[Any, ...] | None] = field(default_factory=list)
    """What the rest of the world does while the relay is in the middle of something."""

    def happens(self) -> None:
        """A moment at which the relay waits for somebody."""
        action = self.meanwhile.pop() if self.meanwhile else None
        if action is not None:
            getattr(self, action[0])(*action[1:])

    # what the store does

    def change(self, number: int, tier: Tier, level: int) -> None:
        after = standing(f"c{number}", tier, level)
        before = self.customers.get(after.customer_id)
        if before is None or (before.tier, before.service_level) != (after.tier, after.service_level):
            self.customers[after.customer_id] = after
            payload = Change(after.customer_id, before, after).payload()
            self.changes.append(ChangeAnnouncement(len(self.changes) + 1, after.customer_id, payload, NOW))

    def vanish(self, number: int) -> None:
        """Erased, and nobody is told."""
        self.customers.pop(CustomerId(f"c{number}"), None)

    async def wanted(self, *, every_hours: float) -> FullSnapshot | None:
        return next((each for each in self.asked if each.done_at is None), None)

    async def begin(self, snapshot_id: int) -> FullSnapshot:
        old = self.asked[snapshot_id]
        self.asked[snapshot_id] = FullSnapshot(old.id, old.attempt + 1, NOW, NOW, None, 0)
        return self.asked[snapshot_id]

    async def chunk_after(self, customer_id: str, *, limit: int) -> SnapshotChunk | None:
        before = self.placed
        self.placed = min(len(self.changes), self.placed + AT_ONCE)
        if self.placed == before + AT_ONCE:
            return None
        following = sorted(each for each in self.customers if each > customer_id)[:limit]
        chunk = SnapshotChunk(self.placed, [self.customers[each] for each in following])
        self.happens()
        return chunk

    async def note(self, snapshot: FullSnapshot, *, customers: int, done: bool) -> bool:
        if self.asked[snapshot.id].attempt != snapshot.attempt:
            return False
        self.asked[snapshot.id] = FullSnapshot(
            snapshot.id, snapshot.attempt, NOW, NOW, NOW if done else None, customers
        )
        return True

    def ask(self) -> None:
        self.asked.append(FullSnapshot(len(self.asked), 0, NOW, None, None, 0))

    # what the relay does

    async def relay_to(self, position: int) -> None:
        while self.relayed < position:
            self.happens()
            some = self.changes[self.relayed : min(self.relayed + AT_ONCE, position)]
            await produce(self.topic, TOPIC, map(change_message, some))
            self.relayed = some[-1].position

    async def round(self) -> bool:
        """One turn of the relay; whether there may be more to do."""
        self.placed = min(len(self.changes), self.placed + AT_ONCE)
        began = self.relayed
        await self.relay_to(min(self.placed, self.relayed + AT_ONCE))
        if self.relayed - began == AT_ONCE:
            return True
        self.happens()
        if self.maker is None:
            self.maker = SnapshotMaker(
                self,  # type: ignore[arg-type]
                self.topic,
                TOPIC,
                every_hours=0,
                relay_changes_to=self.relay_to,
                customers_at_once=CHUNK,
            )
        self.maker._looked_at = float("-inf")
        return await self.maker.step(relayed=self.relayed) or self.relayed > began

    async def die(self, repeated: int) -> None:
        """The relay ends; what it had not yet marked as relayed comes again."""
        self.maker = None
        self.relayed = max(0, self.relayed - repeated)

    async def rest(self) -> None:
        while await self.round() or self.relayed < len(self.changes):
            pass

    @property
    def truth(self) -> dict[str, dict[str, str | bool]]:
        return {
            customer: {
                "value_tier": each.tier,
                "segment": each.segment,
                "service_level": each.service_level,
                "churn_warning": each.churn_warning,
            }
            for customer, each in self.customers.items()
        }


CUSTOMERS = st.integers(0, 6)
CHANGES = st.tuples(st.just("change"), CUSTOMERS, st.sampled_from(Tier), st.integers(0, 2))
VANISHINGS = st.tuples(st.just("vanish"), CUSTOMERS)
ROUNDS = st.tuples(st.just("round"))
ASKS = st.tuples(st.just("ask"))
DEATHS = st.tuples(st.just("die"), st.integers(0, 2))
WORKINGS = st.lists(st.one_of(CHANGES, CHANGES, ASKS, ROUNDS, ROUNDS, ROUNDS), max_size=60)
EVERYTHING = st.lists(st.one_of(CHANGES, CHANGES, VANISHINGS, ASKS, ROUNDS, ROUNDS, ROUNDS, DEATHS), max_size=60)
MEANWHILE = st.lists(st.one_of(st.none(), CHANGES), max_size=60)


async def play(world: World, actions: Sequence[tuple[Any, ...]]) -> None:
    for name, *arguments in actions:
        done = getattr(world, name)(*arguments)
        if done is not None:
            await done


@given(EVERYTHING, MEANWHILE, st.integers(0, 100))
def test_whoever_joins_at_any_time_ends_at_the_truth(
    actions: list[tuple[Any, ...]], meanwhile: list[tuple[Any, ...] | None], joined: int
) -> None:
    """From the first message, from any later one before the last full snapshot, or from what compaction left."""

    async def run() -> None:
        world = World(meanwhile=meanwhile)
        await play(world, actions)
        await world.rest()
        world.ask()
        await world.rest()
        messages = world.topic.messages
        snapshot = world.asked[-1]
        later = messages[min(joined, _last_begin(messages)) :]
        for seen in (messages, later, compacted(messages), compacted(later), messages[: joined % 50] + messages):
            follower = Follower()
            follower.read(seen)
            assert follower.sides == world.truth
            assert follower.completed[-PARTITIONS:] == [(snapshot.name, number) for number in range(PARTITIONS)]

    asyncio.run(run())


@given(WORKINGS, MEANWHILE)
def test_a_full_snapshot_neither_hides_a_change_nor_puts_anybody_back(
    actions: list[tuple[Any, ...]], meanwhile: list[tuple[Any, ...] | None]
) -> None:
    """Who reads from the beginning takes every change, each as it begins where the customer then stands."""

    async def run() -> None:
        world = World(meanwhile=meanwhile)
        await play(world, actions)
        await world.rest()
        follower, last, taken = Follower(), dict[str, int](), 0
        for message in world.topic.messages:
            body = json.loads(message.value or b"")
            if "customer_id" in body:
                customer = body["customer_id"]
                assert body["sequence"] >= last.get(customer, 0)
                last[customer] = body["sequence"]
                if body["kind"] == "change":
                    assert follower.sides.get(customer) == body["before"]
                    taken += 1
                elif customer in follower.sides:
                    assert follower.sides[customer] == body["after"]
            follower.read([message])
            if body["kind"] == "change":
                assert follower.known[body["customer_id"]].sequence == body["sequence"]
        assert taken == len(world.changes)
        assert follower.sides == world.truth

    asyncio.run(run())


@given(WORKINGS, MEANWHILE, st.lists(st.integers(0, 3), max_size=5))
def test_a_relay_that_dies_again_and_again_leaves_the_truth_behind(
    actions: list[tuple[Any, ...]], meanwhile: list[tuple[Any, ...] | None], deaths: list[int]
) -> None:
    """Also where no full snapshot comes after: repeats and broken snapshots do no harm, compacted or not."""

    async def run() -> None:
        world = World(meanwhile=meanwhile)
        for number, repeated in enumerate(deaths):
            await play(world, actions[number :: len(deaths)])
            await world.die(repeated)
        await world.rest()
        for seen in (world.topic.messages, compacted(world.topic.messages)):
            follower = Follower()
            follower.read(seen)
            assert follower.sides == world.truth

    asyncio.run(run())


def _last_begin(messages: Sequence[Read]) -> int:
    """Where the last full snapshot begins, on the first of its partitions."""
    begins = [number for number, message in enumerate(messages) if message.key == b"#snapshot_begin"]
    return begins[-PARTITIONS]
