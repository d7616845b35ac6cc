"""What the API says of ingestion: status, events, totals, rejects, full snapshots."""

from datetime import date

from pydantic import BaseModel, Field

from segment_api.schemas import Moment, example


class HaltAnswer(BaseModel):
    """Why a partition stands still, and how it goes on."""

    at: Moment = Field(description="When it halted, by the machine's clock.")
    offset: int = Field(description="Of the last message read before the halt.")
    detail: str = Field(description="What was too many.")
    reasons: dict[str, int] = Field(description="How many of those messages were rejected for which reason.")
    remedy: str = Field(description="What to do.")


class PartitionAnswer(BaseModel):
    """How far one partition was read."""

    topic: str
    partition: int
    next_offset: int = Field(description="The next message to read.")
    end_offset: int = Field(description="Where the partition ends, as last seen by the worker.")
    lag: int = Field(description="Messages not yet read.")
    worker: str | None = Field(
        description="Who reads it; null where nobody does, or who did has given no sign of life for ten seconds."
    )
    halted: HaltAnswer | None = Field(
        description="Set where too many of its messages were rejected: nothing is read until an operator resumes it."
    )


class WaitAnswer(BaseModel):
    """What a part of a worker waits for."""

    part: str = Field(description="consumer, subscription, watchdog, budget, keeper, relay or webhooks.")
    awaited: str = Field(
        alias="for", description="database, broker, partitions, topics, position, messages, resume, process, repair."
    )
    since: Moment = Field(description="By the clock of the worker's machine.")
    detail: str = Field(description="What was said of it.")


class WorkerAnswer(BaseModel):
    """A worker that has not ended in order; one that is gone is forgotten after an hour."""

    worker: str = Field(description="Machine, process id, and some letters of its own.")
    started_at: Moment = Field(description="By the clock of the database.")
    seen_at: Moment = Field(description="When it last gave a sign of life, by the clock of the database.")
    waiting_for: list[WaitAnswer] = Field(description="Empty while it works.")


class EventCounts(BaseModel):
    """Every message read ended as exactly one of these."""

    applied: int
    duplicate: int
    rejected: int
    suppressed: int


class TiersFreshness(BaseModel):
    """How far the cut-offs have come."""

    as_of: date | None = Field(description="The business day that the cut-offs were settled for.")
    current: bool = Field(description="True once the cut-offs cover every event applied.")


_FULL_SNAPSHOT_EXAMPLE = {
    "snapshot_id": "17.1",
    "requested_at": "2026-11-22T08:00:00.000Z",
    "begun_at": "2026-11-22T08:00:00.500Z",
    "done_at": "2026-11-22T08:00:03.200Z",
    "customers": 5942,
}


class FullSnapshotAnswer(BaseModel):
    """Where everyone stands, sent to the topic of changes."""

    model_config = example(_FULL_SNAPSHOT_EXAMPLE)

    snapshot_id: str | None = Field(
        description="What its messages call it; another one for each attempt, null before the first."
    )
    requested_at: Moment = Field(description="When it was asked for, by a person or by the schedule.")
    begun_at: Moment | None = Field(description="When the last attempt began; null while nobody has begun it.")
    done_at: Moment | None = Field(description="When its end markers were on the topic; null before.")
    customers: int = Field(description="Customers on the topic so far, in the last attempt.")


class FullSnapshotsAnswer(BaseModel):
    """Full snapshots, those last asked for first."""

    model_config = example({"full_snapshots": [_FULL_SNAPSHOT_EXAMPLE]})

    full_snapshots: list[FullSnapshotAnswer]


class IngestAnswer(BaseModel):
    """How ingestion stands: exact counts, in step with the data."""

    model_config = example(
        {
            "clock": "system",
            "as_of": "2026-11-22",
            "lag": 0,
            "partitions": [
                {
                    "topic": "logistics.orders",
                    "partition": 0,
                    "next_offset": 9244,
                    "end_offset": 9244,
                    "lag": 0,
                    "worker": "host-a-4711-9f3c2e10",
                    "halted": None,
                }
            ],
            "workers": [
                {
                    "worker": "host-a-4711-9f3c2e10",
                    "started_at": "2026-11-22T07:00:00.000Z",
                    "seen_at": "2026-11-22T08:15:31.005Z",
                    "waiting_for": [],
                }
            ],
            "events": {"applied": 44876, "duplicate": 0, "rejected": 0, "suppressed": 0},
            "customers": 5942,
            "tiers": {"as_of": "2026-11-22", "current": True},
            "last_applied_at": "2026-11-22T08:15:30.120Z",
            "events_known_since": "2025-10-18",
        }
    )

    clock: str = Field(description="`system`: as_of is today; `event`: it follows the events.")
    as_of: date | None = Field(description="The current business day; null before the first event.")
    lag: int = Field(description="Messages not yet read, over all partitions.")
    partitions: list[PartitionAnswer]
    workers: list[WorkerAnswer] = Field(description="Who reads, since when, and what each waits for.")
    events: EventCounts
    customers: int = Field(description="Known customers.")
    tiers: TiersFreshness
    last_applied_at: Moment | None = Field(description="When an event was last applied, by the machine's clock.")
    events_known_since: date | None = Field(
        description="Raw events of earlier days may have been dropped: a repeat of one is not recognised as a "
        "duplicate any more. It is counted as applied again, and changes no figure of a customer. Null while none was "
        "dropped."
    )


_DEAD_LETTER_EXAMPLE = {
    "id": 17,
    "reason": "schema",
    "field": "amount",
    "detail": "amount is '-5'; an amount is expected, 0 or more, ...",
    "topic": "logistics.orders",
    "partition": 3,
    "offset": 1204,
    "customer_id": "C-1042",
    "event_id": "evt-881",
    "recorded_at": "2026-11-22T08:15:30.120Z",
    "replayed_as": None,
    "replayed_at": None,
}


class DeadLetterAnswer(BaseModel):
    """A rejected message: why, and where it came from."""

    model_config = example(_DEAD_LETTER_EXAMPLE)

    id: int = Field(description="Under which the message is kept here.")
    reason: str = Field(description="Reason code, such as schema or unknown_currency.")
    field: str | None = Field(description="The field that is wrong, where it is one.")
    detail: str = Field(description="The field, its value, and what to send instead.")
    topic: str
    partition: int
    offset: int
    customer_id: str | None = Field(description="As far as one could be read.")
    event_id: str | None = Field(description="As far as one could be read.")
    recorded_at: Moment = Field(description="When it was refused, by the machine's clock.")
    replayed_as: str | None = Field(
        description="Its outcome since a replay succeeded: applied, duplicate or suppressed."
    )
    replayed_at: Moment | None = Field(description="When it was last replayed.")


class DeadLetterDetail(DeadLetterAnswer):
    """A rejected message with its bytes."""

    model_config = example(
        _DEAD_LETTER_EXAMPLE
        | {
            "value_base64": "eyJldmVudF9pZCI6ImV2dC04ODEifQ==",
            "value_text": '{"event_id":"evt-881"}',
            "headers": [{"name": "trace", "value_base64": "YWJj"}],
        }
    )

    value_base64: str | None = Field(description="The bytes as received; null for an empty message.")
    value_text: str | None = Field(description="The same as text, where they are UTF-8.")
    headers: list[dict[str, str | None]] = Field(description="Message headers: name, and value in base64.")


class ReplayAnswer(BaseModel):
    """What a replay made of a rejected message."""

    model_config = example({"id": 17, "outcome": "applied", "reason": None, "detail": None})

    id: int = Field(description="Of the dead letter.")
    outcome: str = Field(description="applied, duplicate, suppressed, or rejected again.")
    reason: str | None = Field(description="Why it is still rejected.")
    detail: str | None = Field(description="The field, its value, and what to send instead.")


class AppliedPart(BaseModel):
    """The message of an event id that was applied."""

    type: str = Field(description="order, return, complaint, ...")
    customer_id: str
    business_day: date = Field(description="The day that it counts on.")
    topic: str
    partition: int
    offset: int
    recorded_at: Moment = Field(description="When it was applied, by the database's clock.")
    counts: bool = Field(description="False for an older version of an order, and for what was retracted.")
    counting_event_id: str | None = Field(description="The event that counts in its place; null where retracted.")


class DeadLettersAnswer(BaseModel):
    """Rejected messages, newest first."""

    model_config = example({"dead_letters": [_DEAD_LETTER_EXAMPLE], "next": "/dead-letters?limit=1&before=17"})

    dead_letters: list[DeadLetterAnswer]
    next: str | None = Field(description="Path of the next page; null on the last one.")


class EventAnswer(BaseModel):
    """What became of an event id."""

    model_config = example(
        {
            "event_id": "evt-4711",
            "outcome": "applied",
            "applied": {
                "type": "order",
                "customer_id": "C-1042",
                "business_day": "2026-11-22",
                "topic": "logistics.orders",
                "partition": 3,
                "offset": 1204,
                "recorded_at": "2026-11-22T08:15:30.120Z",
                "counts": True,
                "counting_event_id": "evt-4711",
            },
            "rejections": [],
            "older_rejections": False,
        }
    )

    event_id: str = Field(description="As asked for.")
    outcome: str = Field(description="applied, or rejected where no message of this id was ever applied.")
    applied: AppliedPart | None = Field(description="The message that was applied; its repeats are duplicates.")
    rejections: list[DeadLetterAnswer] = Field(description="The hundred newest messages of this id that were refused.")
    older_rejections: bool = Field(description="Whether more were refused; `GET /dead-letters` lists all.")


class TotalPart(BaseModel):
    """What was applied of one business day, type and currency."""

    business_day: date = Field(description="The day that the events count on.")
    type: str = Field(description="order, return, complaint, ...")
    currency: str | None = Field(description="As given in the events; null for types without an amount.")
    events: int = Field(description="Applied events; every version of an order is one.")
    amount: str | None = Field(description="Sum in that currency, as given; null for types without an amount.")


class TotalsAnswer(BaseModel):
    """What was applied, to set against the books."""

    model_config = example(
        {
            "from": "2026-11-21",
            "to": "2026-11-22",
            "totals": [
                {"business_day": "2026-11-22", "type": "order", "currency": "CNY", "events": 2, "amount": "120.50"}
            ],
        }
    )

    first: date = Field(alias="from", description="The first business day.")
    last: date = Field(alias="to", description="The last business day.")
    totals: list[TotalPart] = Field(description="In order of day, type and currency.")
