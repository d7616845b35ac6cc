"""Broker records -> a batch for the ledger. Pure: what was read and what is claimed come in as arguments.

Laws: a record below the claimed offset was recorded before and is left out; offsets may have gaps
(transaction markers, compaction), so nothing expects them to be contiguous; a partition without a
claim has no part in a batch. A batch that is cut somewhere is the one that would have been read up to there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from segmentation.envelopes import Headers
from segmentation.events import decode
from segmentation.ledger import Batch, Claim, PartitionProgress
from segmentation.outcomes import Delivery, Partition, Reading

_WORTH_TWO_LANES = 2_000
"""Messages: two commits cost more than the work of fewer."""


class Record(Protocol):
    """What a batch needs of a broker record."""

    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


def assemble(
    records: Mapping[Partition, Iterable[Record]],
    claims: Mapping[Partition, Claim],
    positions: Mapping[Partition, int],
    end_offsets: Mapping[Partition, int],
) -> Batch:
    """Decodes what was read of the claimed partitions.

    Args:
        records: As polled, in order of their offsets.
        claims: Where each partition goes on.
        positions: Where the client goes on after these records.
        end_offsets: Where the partitions end, as far as known.
    """
    readings: list[Reading] = []
    progress: dict[Partition, PartitionProgress] = {}
    for partition, claim in claims.items():
        began = claim.next_offset or 0
        next_offset = began
        for record in records.get(partition, ()):
            if record.offset < next_offset:
                continue
            value, headers = record.value, tuple(record.headers)
            delivery = Delivery(partition, record.offset, value, headers)
            readings.append(Reading(delivery, decode(value, headers)))
            next_offset = record.offset + 1
        next_offset = max(next_offset, positions.get(partition, 0))
        if next_offset != began:
            end_offset = max(end_offsets.get(partition, 0), next_offset)
            progress[partition] = PartitionProgress(claim, next_offset, end_offset)
    return Batch(readings, progress)


def lanes(
    records: Mapping[Partition, Sequence[Record]], claims: Mapping[Partition, Claim]
) -> list[Mapping[Partition, Claim]]:
    """The claims, cut in two where there is enough to read: partitions of one number stay together in all topics.

    A customer's events have one key, so two lanes seldom want the same customer.
    """
    by_lane: dict[int, dict[Partition, Claim]] = {}
    many = sum(map(len, records.values())) >= _WORTH_TWO_LANES
    for partition, claim in claims.items():
        by_lane.setdefault(partition.number % 2 if many else 0, {})[partition] = claim
    return list(by_lane.values())


def cut(batch: Batch, stops: Mapping[Partition, int]) -> Batch:
    """The batch without what some partitions hold from an offset on; one of which nothing is left has no part in it."""
    readings = [
        reading
        for reading in batch.readings
        if reading.delivery.partition not in stops or reading.delivery.offset < stops[reading.delivery.partition]
    ]
    progress = dict(batch.progress)
    for partition, stop in stops.items():
        reached = progress.pop(partition)
        if stop > (reached.claim.next_offset or 0):
            progress[partition] = replace(reached, next_offset=stop)
    return Batch(readings, progress)
