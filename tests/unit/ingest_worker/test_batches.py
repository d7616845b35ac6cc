"""What was polled becomes a batch: from where each claim goes on, past gaps, and never of what is not claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.support.builders import a_complaint, as_message

from ingest_worker.batches import assemble, cut
from segmentation.envelopes import Headers
from segmentation.events import ComplaintRaised, Reject, RejectReason
from segmentation.ledger import Batch, Claim, PartitionProgress
from segmentation.outcomes import Partition

ONE, OTHER = Partition("logistics.orders", 0), Partition("logistics.returns", 3)
SOUND = as_message(a_complaint()).value


@dataclass(frozen=True, slots=True)
class Polled:
    """A record as the client hands it over."""

    offset: int
    value: bytes | None = SOUND
    headers: Headers = ()


def batch_of(
    offsets: Sequence[int],
    *,
    claim: Claim,
    position: int | None = None,
    end: int | None = None,
) -> Batch:
    """A batch of one partition."""
    positions = {} if position is None else {ONE: position}
    ends = {} if end is None else {ONE: end}
    return assemble({ONE: [Polled(offset) for offset in offsets]}, {ONE: claim}, positions, ends)


def read(batch: Batch) -> list[tuple[Partition, int]]:
    """Where the readings come from."""
    return [(reading.delivery.partition, reading.delivery.offset) for reading in batch.readings]


def progress_of(batch: Batch) -> Mapping[Partition, tuple[int, int]]:
    return {partition: (each.next_offset, each.end_offset) for partition, each in batch.progress.items()}


def test_records_are_decoded_in_the_order_of_their_offsets() -> None:
    claim = Claim(epoch=4, next_offset=7)
    batch = batch_of([7, 8, 9], claim=claim, position=10, end=12)
    assert read(batch) == [(ONE, 7), (ONE, 8), (ONE, 9)]
    assert all(isinstance(reading.decoded, ComplaintRaised) for reading in batch.readings)
    assert batch.progress == {ONE: PartitionProgress(claim, next_offset=10, end_offset=12)}


def test_what_a_record_holds_is_kept_as_received() -> None:
    headers = (("trace", b"\xff"), ("ce_x", b""))
    batch = assemble({ONE: [Polled(0, b"?", headers), Polled(1, None)]}, {ONE: Claim(1, None)}, {}, {})
    garbage, nothing = batch.readings
    assert (garbage.delivery.value, garbage.delivery.headers) == (b"?", headers)
    assert isinstance(garbage.decoded, Reject)
    assert garbage.decoded.reason is RejectReason.INVALID_JSON
    assert nothing.delivery.value is None
    assert isinstance(nothing.decoded, Reject)
    assert nothing.decoded.reason is RejectReason.EMPTY


def test_offsets_may_have_gaps() -> None:
    """Compaction and the markers of transactions leave them, at the beginning too."""
    batch = batch_of([5, 6, 40, 1_000], claim=Claim(1, 2), position=1_001, end=1_001)
    assert [offset for _, offset in read(batch)] == [5, 6, 40, 1_000]
    assert progress_of(batch) == {ONE: (1_001, 1_001)}


def test_a_record_below_the_claim_was_recorded_before() -> None:
    """A fetch that was under way when the claim was made may still bring it."""
    batch = batch_of([3, 4, 5, 6], claim=Claim(1, 5), position=7)
    assert [offset for _, offset in read(batch)] == [5, 6]


def test_a_record_that_comes_twice_is_read_once() -> None:
    batch = batch_of([3, 4, 3, 4, 5], claim=Claim(1, 3), position=6)
    assert [offset for _, offset in read(batch)] == [3, 4, 5]


def test_old_records_alone_are_no_batch() -> None:
    """Least of all do they take the partition back to where they stand."""
    batch = batch_of([1, 2], claim=Claim(1, 9), position=3, end=20)
    assert (batch.readings, batch.progress) == ([], {})


def test_a_partition_without_a_claim_has_no_part_in_a_batch() -> None:
    records = {ONE: [Polled(0)], OTHER: [Polled(0)]}
    batch = assemble(records, {OTHER: Claim(1, 0)}, {ONE: 1, OTHER: 1}, {ONE: 1, OTHER: 1})
    assert read(batch) == [(OTHER, 0)]
    assert progress_of(batch) == {OTHER: (1, 1)}
    assert assemble(records, {}, {ONE: 1}, {ONE: 1}) == Batch([], {})


def test_a_position_past_what_carries_no_record_is_progress() -> None:
    """Behind a transaction stands a marker, and one taken back leaves nothing to read at all."""
    after_records = batch_of([4, 5], claim=Claim(1, 4), position=7, end=7)
    assert progress_of(after_records) == {ONE: (7, 7)}
    nothing_to_read = batch_of([], claim=Claim(1, 4), position=30, end=31)
    assert (nothing_to_read.readings, progress_of(nothing_to_read)) == ([], {ONE: (30, 31)})


def test_a_position_behind_the_records_takes_nothing_back() -> None:
    batch = batch_of([4, 5], claim=Claim(1, 4), position=4)
    assert progress_of(batch) == {ONE: (6, 6)}


def test_no_news_is_no_batch() -> None:
    assert batch_of([], claim=Claim(1, 4), position=4, end=4).progress == {}
    assert batch_of([], claim=Claim(1, 4)).progress == {}


def test_a_partition_never_read_begins_where_its_records_do() -> None:
    """The claim knows no offset, and goes on as one that knows none: the store compares it with what it has."""
    claim = Claim(1, None)
    batch = batch_of([100, 101], claim=claim, position=102, end=102)
    assert [offset for _, offset in read(batch)] == [100, 101]
    assert batch.progress == {ONE: PartitionProgress(claim, next_offset=102, end_offset=102)}


def test_an_empty_partition_never_read_is_no_batch() -> None:
    assert batch_of([], claim=Claim(1, None), position=0, end=0).progress == {}


def test_the_end_is_never_before_what_was_read() -> None:
    """What the client knows of the end is older than the records, or not known yet."""
    assert progress_of(batch_of([4, 5], claim=Claim(1, 4), position=6, end=5)) == {ONE: (6, 6)}
    assert progress_of(batch_of([4, 5], claim=Claim(1, 4), position=6)) == {ONE: (6, 6)}
    assert progress_of(batch_of([4, 5], claim=Claim(1, 4), position=6, end=90)) == {ONE: (6, 90)}


def test_partitions_are_told_apart() -> None:
    records = {ONE: [Polled(5)], OTHER: [Polled(1), Polled(2)]}
    claims = {ONE: Claim(3, 5), OTHER: Claim(8, 2)}
    batch = assemble(records, claims, {ONE: 6, OTHER: 3}, {ONE: 9, OTHER: 3})
    assert read(batch) == [(ONE, 5), (OTHER, 2)]
    assert batch.progress == {
        ONE: PartitionProgress(claims[ONE], 6, 9),
        OTHER: PartitionProgress(claims[OTHER], 3, 3),
    }


def test_a_batch_that_is_cut_is_the_one_that_would_have_been_read_up_to_there() -> None:
    """The other partitions keep all that they have."""
    records = {ONE: [Polled(5), Polled(7), Polled(9)], OTHER: [Polled(1), Polled(2)]}
    claims = {ONE: Claim(3, 5), OTHER: Claim(8, 1)}
    ends = {ONE: 90, OTHER: 91}
    whole = assemble(records, claims, {ONE: 10, OTHER: 3}, ends)
    assert cut(whole, {ONE: 9}) == assemble(records | {ONE: [Polled(5), Polled(7)]}, claims, {ONE: 9, OTHER: 3}, ends)


def test_a_partition_of_which_nothing_is_left_has_no_part_in_a_batch() -> None:
    whole = assemble({ONE: [Polled(5)], OTHER: [Polled(1)]}, {ONE: Claim(3, 5), OTHER: Claim(8, 1)}, {}, {})
    batch = cut(whole, {ONE: 5})
    assert read(batch) == [(OTHER, 1)]
    assert set(batch.progress) == {OTHER}
    assert cut(batch, {OTHER: 1}) == Batch([], {})
