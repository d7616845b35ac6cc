"""Dead letters as Kafka messages: whatever was refused, a broker takes what is said of it."""

import base64
from datetime import UTC, datetime

import pytest

from ingest_worker.producing import KafkaMessage, dead_letter_message
from segmentation.ledger import DeadLetter
from segmentation.outcomes import Partition

LARGEST_REQUEST = 1024 * 1024


def letter(value: bytes | None, *headers: tuple[str, bytes]) -> DeadLetter:
    return DeadLetter(
        id=17,
        partition=Partition("logistics.orders", 3),
        offset=42,
        reason="invalid_json",
        field_name=None,
        sentence="It is no JSON.",
        customer_id=None,
        event_id=None,
        recorded_at=datetime(2026, 11, 22, tzinfo=UTC),
        replayed_as=None,
        replayed_at=None,
        value=value,
        headers=[(name, base64.b64encode(content).decode()) for name, content in headers],
    )


def size(message: KafkaMessage) -> int:
    return len(message.value or b"") + sum(len(name.encode()) + len(content) for name, content in message.headers)


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"x" * 1_000_000, []),
        (b"x" * 890_000, [("trace", b"y" * 158_000)]),
        (b"x", [("trace", b"y" * 2_000_000)]),
        (b"x", [("n" * 950_000, b"")]),
        (None, [(str(number), b"y" * 50_000) for number in range(30)]),
    ],
)
def test_one_too_large_goes_without_its_bytes_and_headers(
    value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    message = dead_letter_message(letter(value, *headers))
    assert message.value == b""
    assert ("tierline-value-omitted", b"true") in message.headers
    assert ("tierline-id", b"17") in message.headers
    assert size(message) < LARGEST_REQUEST / 2


def test_any_other_goes_whole() -> None:
    message = dead_letter_message(letter(b"x" * 262_145, ("trace", b"\xff" * 600_000)))
    assert message.value == b"x" * 262_145
    assert message.headers[-1] == ("trace", b"\xff" * 600_000)
    assert "tierline-value-omitted" not in dict(message.headers)
