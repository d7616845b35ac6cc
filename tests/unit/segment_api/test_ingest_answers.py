"""What the ledger knows of ingestion, as the API answers it."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from segment_api import ingest_answers
from segmentation.answers import IngestStatus, PartitionStatus
from segmentation.ledger import DeadLetter, Halt
from segmentation.outcomes import Outcome, Partition

DAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 8, 15, 30, 120_999, tzinfo=UTC)


def a_partition(number: int, next_offset: int | None, end_offset: int | None) -> PartitionStatus:
    return PartitionStatus(Partition("logistics.orders", number), next_offset, end_offset, "worker-1")


def test_the_lag_is_the_messages_not_read_over_all_partitions() -> None:
    """A partition claimed and never read, one behind, one whose end is not known yet."""
    status = IngestStatus(
        as_of=DAY,
        partitions=[
            a_partition(0, None, 5),
            a_partition(1, 7, 10),
            a_partition(2, 4, None),
            a_partition(3, None, None),
        ],
        workers=[],
        events=dict.fromkeys(Outcome, 0) | {Outcome.APPLIED: 2**40},
        customers=0,
        tiers_as_of=None,
        tiers_current=False,
        last_applied_at=None,
    )
    shown = ingest_answers.present_status(status, "event")
    assert [(each.next_offset, each.end_offset, each.lag) for each in shown.partitions] == [
        (0, 5, 5),
        (7, 10, 3),
        (4, 4, 0),
        (0, 0, 0),
    ]
    assert (shown.clock, shown.lag, shown.events.applied, shown.last_applied_at) == ("event", 8, 2**40, None)


def test_a_halted_partition_says_since_when_why_and_what_to_do() -> None:
    halt = Halt(datetime(2026, 3, 1, 12, tzinfo=UTC), 9, "500 messages in a row were rejected", {"schema": 500})
    partition = PartitionStatus(Partition("logistics.orders", 3), 10, 90, "worker-1", halt)
    status = IngestStatus(
        DAY, [partition], [], dict.fromkeys(Outcome, 0), 0, None, tiers_current=False, last_applied_at=None
    )
    (shown,) = ingest_answers.present_status(status, "event").partitions
    assert shown.model_dump(mode="json")["halted"] == {
        "at": "2026-03-01T12:00:00.000Z",
        "offset": 9,
        "detail": "500 messages in a row were rejected.",
        "reasons": {"schema": 500},
        "remedy": "Mend what sends or reads these messages, then run `ingest-worker resume logistics.orders/3`, "
        "then replay what was rejected.",
    }


# --- dead letters ---------------------------------------------------------------------------------------------------

LETTER = DeadLetter(
    id=17,
    partition=Partition("logistics.orders", 3),
    offset=1204,
    reason="schema",
    field_name="amount",
    sentence="amount is '-5'; an amount is expected.",
    customer_id="C-1",
    event_id="e",
    recorded_at=NOW,
    replayed_as=None,
    replayed_at=None,
    value="{订".encode(),
    headers=[("trace", "AQ==")],
)


def test_a_listed_letter_has_no_bytes() -> None:
    assert ingest_answers.present_dead_letter(LETTER).model_dump(mode="json") == {
        "id": 17,
        "reason": "schema",
        "field": "amount",
        "detail": "amount is '-5'; an amount is expected.",
        "topic": "logistics.orders",
        "partition": 3,
        "offset": 1204,
        "customer_id": "C-1",
        "event_id": "e",
        "recorded_at": "2026-11-22T08:15:30.120Z",
        "replayed_as": None,
        "replayed_at": None,
    }


@pytest.mark.parametrize(
    ("value", "in_base64", "text"),
    [("{订".encode(), "e+iuog==", "{订"), (b"\xff", "/w==", None), (b"", "", ""), (None, None, None)],
)
def test_a_letter_opened_has_its_bytes_and_their_text_where_they_are_text(
    value: bytes | None, in_base64: str | None, text: str | None
) -> None:
    shown = ingest_answers.present_dead_letter_detail(replace(LETTER, value=value))
    assert (shown.value_base64, shown.value_text) == (in_base64, text)
    assert shown.headers == [{"name": "trace", "value_base64": "AQ=="}]


@pytest.mark.parametrize("field_name", ["", None])
def test_a_reject_about_no_field_names_none(field_name: str | None) -> None:
    assert ingest_answers.present_dead_letter(replace(LETTER, field_name=field_name)).field is None
