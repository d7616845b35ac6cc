"""How far ingestion is, what became of messages, what was applied -> what the API answers."""

import base64
from collections.abc import Iterable
from datetime import date
from decimal import Decimal

from segment_api import ingest_schemas
from segmentation.answers import DayTotal, EventFate, IngestStatus, PartitionStatus
from segmentation.feeds import FullSnapshot
from segmentation.ledger import DeadLetter, Replay
from segmentation.money import MINOR_UNITS, format_minor
from segmentation.outcomes import Outcome


def present_status(status: IngestStatus, clock: str) -> ingest_schemas.IngestAnswer:
    """How ingestion stands."""
    return ingest_schemas.IngestAnswer(
        clock=clock,
        as_of=status.as_of,
        lag=sum(each.lag for each in status.partitions),
        partitions=[
            ingest_schemas.PartitionAnswer(
                topic=each.partition.topic,
                partition=each.partition.number,
                next_offset=each.next_offset or 0,
                end_offset=max(each.end_offset or 0, each.next_offset or 0),
                lag=each.lag,
                worker=each.worker,
                halted=_present_halt(each),
            )
            for each in status.partitions
        ],
        workers=[
            ingest_schemas.WorkerAnswer(
                worker=each.worker,
                started_at=each.started_at,
                seen_at=each.seen_at,
                waiting_for=[ingest_schemas.WaitAnswer.model_validate(wait) for wait in each.waiting_for],
            )
            for each in status.workers
        ],
        events=ingest_schemas.EventCounts(**{outcome.value: count for outcome, count in status.events.items()}),
        customers=status.customers,
        tiers=ingest_schemas.TiersFreshness(as_of=status.tiers_as_of, current=status.tiers_current),
        last_applied_at=status.last_applied_at,
        events_known_since=status.events_known_since,
    )


def _present_halt(status: PartitionStatus) -> ingest_schemas.HaltAnswer | None:
    halt, (topic, number) = status.halt, status.partition
    if halt is None:
        return None
    return ingest_schemas.HaltAnswer(
        at=halt.at,
        offset=halt.offset,
        detail=f"{halt.sentence[:1].upper()}{halt.sentence[1:]}.",
        reasons=dict(halt.reasons),
        remedy="Mend what sends or reads these messages, then run "
        f"`ingest-worker resume {topic}/{number}`, then replay what was rejected.",
    )


def present_full_snapshot(snapshot: FullSnapshot) -> ingest_schemas.FullSnapshotAnswer:
    """How far a full snapshot is."""
    return ingest_schemas.FullSnapshotAnswer(
        snapshot_id=snapshot.name if snapshot.attempt else None,
        requested_at=snapshot.requested_at,
        begun_at=snapshot.begun_at,
        done_at=snapshot.done_at,
        customers=snapshot.customers,
    )


def present_event(fate: EventFate) -> ingest_schemas.EventAnswer:
    """What became of an event id."""
    applied = fate.applied
    return ingest_schemas.EventAnswer(
        event_id=fate.event_id,
        outcome=Outcome.APPLIED if applied else Outcome.REJECTED,
        applied=None
        if applied is None
        else ingest_schemas.AppliedPart(
            type=applied.type,
            customer_id=applied.customer_id,
            business_day=applied.business_day,
            topic=applied.partition.topic,
            partition=applied.partition.number,
            offset=applied.offset,
            recorded_at=applied.recorded_at,
            counts=applied.counting_event_id == fate.event_id,
            counting_event_id=applied.counting_event_id,
        ),
        rejections=[present_dead_letter(letter) for letter in fate.rejections],
        older_rejections=fate.older_rejections,
    )


def present_totals(first: date, last: date, totals: Iterable[DayTotal]) -> ingest_schemas.TotalsAnswer:
    """What was applied, in the currencies given."""
    return ingest_schemas.TotalsAnswer(
        **{"from": first, "to": last},
        totals=[
            ingest_schemas.TotalPart(
                business_day=total.business_day,
                type=total.type,
                currency=total.currency,
                events=total.events,
                amount=None if total.amount is None else _money(total.amount, total.currency or ""),
            )
            for total in totals
        ],
    )


def _money(amount: Decimal, currency: str) -> str:
    decimals = MINOR_UNITS[currency]
    numerator, denominator = amount.as_integer_ratio()
    return format_minor(numerator * 10**decimals // denominator, decimals)


def present_dead_letter(letter: DeadLetter) -> ingest_schemas.DeadLetterAnswer:
    """A rejected message, without its bytes."""
    return ingest_schemas.DeadLetterAnswer(**_letter_fields(letter))


def present_dead_letter_detail(letter: DeadLetter) -> ingest_schemas.DeadLetterDetail:
    """A rejected message with its bytes."""
    value = letter.value
    try:
        text = None if value is None else value.decode()
    except UnicodeDecodeError:
        text = None
    return ingest_schemas.DeadLetterDetail(
        **_letter_fields(letter),
        value_base64=None if value is None else base64.b64encode(value).decode(),
        value_text=text,
        headers=[{"name": name, "value_base64": encoded} for name, encoded in letter.headers],
    )


def _letter_fields(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "reason": letter.reason,
        "field": letter.field_name or None,
        "detail": letter.sentence,
        "topic": letter.partition.topic,
        "partition": letter.partition.number,
        "offset": letter.offset,
        "customer_id": letter.customer_id,
        "event_id": letter.event_id,
        "recorded_at": letter.recorded_at,
        "replayed_as": letter.replayed_as,
        "replayed_at": letter.replayed_at,
    }


def present_replay(replay: Replay) -> ingest_schemas.ReplayAnswer:
    """What a replay made of a rejected message."""
    return ingest_schemas.ReplayAnswer(
        id=replay.letter_id,
        outcome=replay.outcome,
        reason=replay.reject.reason if replay.reject else None,
        detail=replay.reject.sentence if replay.reject else None,
    )
