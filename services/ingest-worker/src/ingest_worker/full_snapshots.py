"""Full snapshots on the topic of changes: begin markers, where everyone stands, end markers.

Laws: a chunk is produced only after every change that it includes and before every later one, so of one customer the
sequences on the topic only grow, but for the repeats of a relay that died; with or without compaction the last message
of a key is the truth; the end is
produced only after all that belongs before it is acknowledged. A snapshot that broke off, for whatever reason, begins
anew under another name. One chunk is in memory at a time, and changes are relayed between chunks.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ingest_worker import telemetry
from ingest_worker.producing import Producer, marker_message, produce, snapshot_message
from segmentation.feeds import FullSnapshot, FullSnapshots
from segmentation.messages import SnapshotBeginMarker, SnapshotEndMarker

CUSTOMERS_AT_ONCE = 500
_LOOK_EVERY_SECONDS = 1.0


@dataclass(slots=True)
class _Run:
    """An attempt under way."""

    snapshot: FullSnapshot
    after: str = ""
    """The last customer that is on the topic; ids sort by bytes, and none is empty."""
    on_partitions: Counter[int] = field(default_factory=Counter)


class SnapshotMaker:
    """Makes full snapshots step by step, for as long as one relay is elected."""

    def __init__(
        self,
        store: FullSnapshots,
        producer: Producer,
        topic: str,
        *,
        every_hours: float,
        relay_changes_to: Callable[[int], Awaitable[None]],
        customers_at_once: int = CUSTOMERS_AT_ONCE,
    ) -> None:
        """`relay_changes_to` relays every change up to a position, and none after it."""
        self._store = store
        self._producer = producer
        self._topic = topic
        self._every_hours = every_hours
        self._relay_changes_to = relay_changes_to
        self._customers_at_once = customers_at_once
        self._run: _Run | None = None
        self._looked_at = float("-inf")

    async def step(self, *, relayed: int) -> bool:
        """Does the next piece of work, if there is any; to be called when changes up to `relayed` are on the topic."""
        if self._run is None:
            return await self._begin_if_wanted(relayed)
        return await self._go_on(self._run)

    async def _begin_if_wanted(self, relayed: int) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < _LOOK_EVERY_SECONDS:
            return False
        wanted = await self._store.wanted(every_hours=self._every_hours)
        if wanted is None:
            self._looked_at = now
            return False
        snapshot = await self._store.begin(wanted.id)
        marker = SnapshotBeginMarker(
            snapshot_id=snapshot.name, sequence=relayed, begun_at=snapshot.begun_at or snapshot.requested_at
        )
        partitions = sorted(await self._producer.partitions_for(self._topic))
        await produce(self._producer, self._topic, [marker_message(marker, partition) for partition in partitions])
        telemetry.say("snapshot.begun", snapshot=snapshot.name)
        self._run = _Run(snapshot)
        return True

    async def _go_on(self, run: _Run) -> bool:
        chunk = await self._store.chunk_after(run.after, limit=self._customers_at_once)
        if chunk is None:
            return True
        await self._relay_changes_to(chunk.position)
        name = run.snapshot.name
        run.on_partitions.update(
            await produce(
                self._producer,
                self._topic,
                (snapshot_message(chunk.position, snapshot, name) for snapshot in chunk.snapshots),
            )
        )
        done = len(chunk.snapshots) < self._customers_at_once
        if done:
            await self._end(run, chunk.position)
        else:
            run.after = chunk.snapshots[-1].customer_id
        if not await self._store.note(run.snapshot, customers=run.on_partitions.total(), done=done):
            telemetry.warn("snapshot.overtaken", snapshot=name)
            done = True
        if done:
            self._run = None
        return True

    async def _end(self, run: _Run, position: int) -> None:
        partitions = sorted(await self._producer.partitions_for(self._topic))
        customers = run.on_partitions.total()
        markers = {
            partition: SnapshotEndMarker(
                snapshot_id=run.snapshot.name,
                sequence=position,
                customers=customers,
                customers_here=run.on_partitions[partition],
            )
            for partition in partitions
        }
        await produce(
            self._producer, self._topic, [marker_message(markers[partition], partition) for partition in partitions]
        )
        telemetry.say("snapshot.done", snapshot=run.snapshot.name, customers=customers)
