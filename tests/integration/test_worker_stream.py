"""A nasty stream through real Kafka and the real worker: it ends as the oracle says, however it was delivered.

The stream is generated from a fixed seed. Messages of one event id share a partition wherever it decides which of them
comes first; all else must not depend on any order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any, Final
from zlib import crc32

import pytest
from tests.support import builders, histories
from tests.support.builders import ABSENT, Event, as_json, as_message
from tests.support.kafka import (
    COMPRESSIONS,
    TOPIC_SETTINGS,
    Placed,
    produce,
    produce_in_transaction,
    produce_with_header_name,
    spread,
)
from tests.support.ledgers import expected, judged, state_of
from tests.support.oracle import Message, Oracle, Setting
from tests.support.workers import Site

from local_stack.kafka import EmbeddedKafka
from segmentation.outcomes import Outcome, Partition

pytestmark = pytest.mark.kafka

RATES: Final = (
    ("USD", "2024-09-01", "7.125"),
    ("USD", "2025-03-01", "7.25"),
    ("JPY", "1990-01-01", "0.005"),
    ("KWD", "1990-01-01", "23.456789012345"),
)
SETTING: Final = Setting(base_currency="CNY", timezone="Asia/Shanghai", clock="event", rates=RATES)
PARTITIONS: Final = 4
IN_BINARY: Final = as_message(builders.a_feedback(), mode="binary")
_CUSTOMERS: Final = histories.CUSTOMER_IDS
_EVENTS: Final = 240
_LAST: Final = datetime(2025, 12, 31, 15, 59, 59, tzinfo=UTC)
"""The last second of a business day."""

Named = tuple[str, Message]
"""A message, and the event id that it may share with others."""


# --- the stream -----------------------------------------------------------------------------------------------------


def _time(random: Random) -> str:
    days = random.choice((0, 0, 1, 6, 7, 29, 30, 89, 90, 364, 365, 366, random.randrange(700)))
    instant = _LAST - timedelta(days=days, seconds=random.choice((0, 0, 86_399, random.randrange(86_400))))
    zone = timezone(timedelta(minutes=random.choice((0, 0, 480, -300, 345))))
    text = instant.astimezone(zone).isoformat()
    return random.choice((text, text.replace("+00:00", "Z"), text.replace("T", "t")))


def _money(random: Random, currency: str) -> str | Decimal:
    minor = random.choice((10_000, 20_000, random.randrange(1, 500_000)))
    amount = Decimal(minor).scaleb(-histories.CURRENCIES[currency])
    return random.choice((amount, format(amount, "f")))


def _event(random: Random, number: int) -> Event:
    common = {
        "event_id": f"e-{number}",
        "customer_id": random.choice(_CUSTOMERS),
        "occurred_at": _time(random),
    }
    order_id = f"O-{random.randrange(25)}"
    currency = random.choice(("CNY", "CNY", "CNY", "USD", "JPY", "KWD"))
    match random.choice("ooooocdrrqffpt"):
        case "o":
            optional: Event = {
                "ordered_at": _time(random),
                "cost": _money(random, currency),
                "items": random.randrange(100),
                "parcels": random.randrange(5),
                "weight_kg": Decimal(random.randrange(100_000)).scaleb(-3),
                "promised_at": _time(random),
                "delivered_at": _time(random),
                "region": random.choice(("North", "华东")),
                "an_unknown_field": [None, {"x": 1}],
            }
            some = {name: value for name, value in optional.items() if random.random() < 0.5}
            amount = _money(random, currency)
            return builders.an_order(**common, order_id=order_id, currency=currency, amount=amount, **some)
        case "c":
            return builders.a_cancellation(**common, order_id=order_id)
        case "d":
            return builders.a_delivery(**common, order_id=order_id, promised_at=_time(random), delivered_at=ABSENT)
        case "r":
            return builders.a_return(**common, currency=currency, amount=_money(random, currency))
        case "q":
            return builders.a_complaint(**common, severity=random.randint(1, 5), text="\U0001f4a5")
        case "f":
            return builders.a_feedback(**common, score=Decimal(random.randrange(1_001)).scaleb(-2))
        case "p":
            return builders.a_customer(**common, name=random.choice(("Ä", None)), attributes={"k": str(number)})
        case _:
            return builders.a_retraction(**common, retracts=f"e-{random.randrange(_EVENTS)}")


def _respelt(random: Random, event: Event) -> Message:
    """The event in any mode, its members in any order; equal content."""
    members = list(event.items())
    random.shuffle(members)
    message = as_message(dict(members), mode=random.choice(builders.MODES))
    assert message.value is not None
    if random.random() < 0.3 and not any(isinstance(value, Decimal) for value in event.values()):
        spaced = json.dumps(json.loads(message.value), indent=random.choice((1, "\t")))
        return Message(spaced.encode(), message.headers)
    return message


def _rejects(random: Random) -> list[Message]:
    """Every reason but conflicts, in every form that `histories` knows, and plain garbage."""
    named = {"customer_id": "C-1", "event_id": "never-applied"}
    messages = [Message(None), Message(b"")]
    messages += [Message(as_json(builders.a_complaint(**named)) + b" " * 262_144)]
    messages += [Message(random.randbytes(random.randrange(1, 400))) for _ in range(20)]
    messages += [Message(value) for value in (*histories.NOT_JSON, *histories.NOT_EVENTS)]
    messages += [
        as_message(build(**(named | {field: value})))
        for build, field, values in histories.MALFORMED_FIELDS
        for value in random.sample(values, min(3, len(values)))
    ]
    for mode in builders.MODES:
        messages += [as_message(builders.an_order(**named, type=name), mode=mode) for name in histories.UNKNOWN_TYPES]
    for field in ("occurred_at", "ordered_at"):
        times = (*histories.TOO_OLD_TIMES, *histories.FUTURE_TIMES)
        messages += [as_message(builders.an_order(**(named | {field: text}))) for text in times]
    messages += [as_message(builders.a_return(**named, currency=code)) for code in histories.UNKNOWN_CURRENCIES]
    messages += [as_message(builders.an_order(**named, currency="USD", occurred_at="2024-08-31T15:59:59Z"))]
    return messages + _broken_cloud_events(named)


def _broken_cloud_events(named: Event) -> list[Message]:
    binary = as_message(builders.a_complaint(**named), mode="binary")
    assert binary.value is not None
    headers = dict(binary.headers)
    changes: list[dict[str, bytes]] = [
        {"ce_specversion": b"\xff\xfe"},
        {"ce_specversion": b"0.3"},
        {"ce_type": b"\xff"},
        {"ce_type": b""},
        {"ce_id": b""},
        {"ce_time": b"yesterday"},
    ]
    messages = [Message(binary.value, tuple((headers | change).items())) for change in changes]
    for missing in ("ce_type", "ce_id", "ce_time"):
        messages.append(Message(binary.value, tuple((name, headers[name]) for name in headers if name != missing)))
    batch_mode = (("content-type", b"application/cloudevents-batch+json"),)
    return [
        *messages,
        Message(b"[]", binary.headers),
        Message(b"?", binary.headers),
        Message(as_json([builders.as_envelope(builders.a_complaint(**named))]), batch_mode),
    ]


def nasty_stream() -> list[Named]:
    """Some 600 messages, always the same ones."""
    random = Random(20260301)
    events = [_event(random, number) for number in range(_EVENTS)]
    named = [(event["event_id"], _respelt(random, event)) for event in events]
    for event in random.sample(events, 50):
        named.append((event["event_id"], _respelt(random, event)))
    for event in random.sample(events, 30):
        other = event | {"another_unknown_field": None}
        named.append((event["event_id"], _respelt(random, other)))
    named += [(f"reject {number}", message) for number, message in enumerate(_rejects(random))]
    random.shuffle(named)
    return named


# --- how it is delivered --------------------------------------------------------------------------------------------


def _by_event_id(stream: Sequence[Named], topics: Sequence[str]) -> list[Placed]:
    placed = []
    for event_id, message in stream:
        index = crc32(event_id.encode())
        placed.append((Partition(topics[index % len(topics)], index // len(topics) % PARTITIONS), message))
    return placed


def _cut(items: Sequence[Placed], parts: int) -> list[Sequence[Placed]]:
    return [items[len(items) * part // parts : len(items) * (part + 1) // parts] for part in range(parts)]


def _taken_back(topics: Sequence[str]) -> list[Placed]:
    """Valid events that would count, new ones and ones that would come before what the stream holds."""
    events = [builders.an_order(event_id=f"aborted-{n}", customer_id="a", order_id=f"x-{n}") for n in range(30)]
    events += [builders.a_complaint(event_id=f"e-{n}", customer_id="never-heard-of") for n in range(30)]
    return spread(map(as_message, events), topics, PARTITIONS)


async def _deliver(servers: str, placed: Sequence[Placed], taken_back: Sequence[Placed]) -> None:
    """In every compression, some as a transaction, and with transactions between that are taken back."""
    for number, (part, compression) in enumerate(zip(_cut(placed, 5), COMPRESSIONS, strict=True)):
        if number % 2:
            await produce_in_transaction(servers, part, commit=True, compression=compression)
        else:
            await produce(servers, part, compression=compression)
        if number in (0, 3, 4):
            await produce_in_transaction(servers, taken_back, commit=False, compression=compression)


def _topics(site: Site) -> list[str]:
    return [site.settings[setting] for setting in TOPIC_SETTINGS]


def _load_rates(site: Site) -> None:
    file = site.directory / "rates.csv"
    file.write_text("".join(f"{','.join(row)}\n" for row in (("currency", "day", "rate"), *RATES)))
    site.command("load-rates", str(file))


async def _rejected_for(site: Site) -> Counter[str]:
    rows = await site.store.rows("SELECT reason, count(*) AS number FROM dead_letters GROUP BY reason")
    return Counter({row.reason: row.number for row in rows})


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the worker looks at the same clock


# --- tests ----------------------------------------------------------------------------------------------------------


async def test_a_nasty_stream_ends_as_the_oracle_says(site: Site, kafka: EmbeddedKafka) -> None:
    """Outcomes add up to the messages produced, each reason as often as it should be; what was taken back never was.

    And nothing of what the messages held is in the log.
    """
    stream = nasty_stream()
    oracle = Oracle(SETTING)
    words, counts = judged(oracle, [message for _, message in stream], _now())
    reasons = Counter(word for word in words if word not in ("applied", "passed over"))
    assert set(reasons) == {*histories.REJECT_REASONS, "conflicting_duplicate"}
    assert len({oracle.computed_tiers(_LAST.date())[customer] for customer in oracle.customers()}) == 4

    _load_rates(site)
    topics = _topics(site)
    worker = site.start(BATCH_MESSAGES="50")
    await _deliver(kafka.bootstrap_servers, _by_event_id(stream, topics), _taken_back(topics))
    status = await site.is_in(len(stream))

    assert {outcome.value: number for outcome, number in status.events.items()} == counts
    assert sum(counts.values()) == len(stream)
    assert await _rejected_for(site) == reasons
    assert await state_of(site.store) == expected(oracle)
    assert worker.stop() == 0
    assert sum(line["messages"] for line in worker.said("batch.recorded")) == len(stream)
    log = worker.log.read_text(encoding="utf-8")
    assert [
        word for word in ("never-applied", "\\ud83d", "华东", "C-10", "e-7", "O-7", "specversion") if word in log
    ] == []


async def test_shuffled_doubled_cut_otherwise_and_killed_it_ends_the_same(site: Site, kafka: EmbeddedKafka) -> None:
    """The worker dies of `kill -9` again and again, alone or with another beside it."""
    oracle = Oracle(SETTING)
    stream = [message for _, message in nasty_stream()]
    # which of two conflicting messages comes first does decide, so those stay out
    kept = [message for message in stream if oracle.read(message, now=_now())[1] != "conflicting_duplicate"]
    once = {outcome: count for outcome, count in oracle.counts.items() if outcome != "duplicate"}
    once["rejected"] -= len(stream) - len(kept)
    doubled = [*kept, *kept]
    Random(7).shuffle(doubled)

    _load_rates(site)
    topics = _topics(site)
    await _deliver(
        kafka.bootstrap_servers, spread(doubled, reversed(topics), PARTITIONS), _taken_back(list(reversed(topics)))
    )
    group = site.settings["KAFKA_GROUP_ID"]
    # the last two are started in groups of their own: nobody waits there until the group has noticed the death
    for deaths, (size, group_id) in enumerate([("2", group), ("1", group), ("3", f"{group}-2"), ("2", f"{group}-3")]):
        worker = site.start(BATCH_MESSAGES=size, KAFKA_GROUP_ID=group_id)
        await site.has_read((deaths + 1) * len(doubled) // 8)
        assert await site.read() < len(doubled)
        worker.kill()
    site.start(BATCH_MESSAGES="100", KAFKA_GROUP_ID=f"{group}-4")
    status = await site.is_in(len(doubled))

    counts = {outcome.value: number for outcome, number in status.events.items()}
    assert sum(counts.values()) == len(doubled)
    assert counts["applied"] == once["applied"]
    assert counts["rejected"] == 2 * once["rejected"]
    assert counts["suppressed"] == 0
    assert await state_of(site.store) == expected(oracle)


@pytest.mark.parametrize(
    ("headers", "rejected_for"),
    [
        ((("trace", None),), None),
        ((("ce_specversion", None), ("ce_id", b"loses")), None),
        ((("ce_specversion", b"1.0"), ("ce_id", None), ("ce_type", None), ("ce_time", None)), "schema"),
        ((("", b""), ("", None), ("content-type", b"\xff"), ("ce_", b"\xff")), None),
        (
            (*as_message(builders.a_feedback(), mode="binary").headers, ("ce_trace", b"\xff"), ("ce_subject", None)),
            None,
        ),
    ],
    ids=["null", "null version", "null attributes", "no names", "an attribute that is no text"],
)
async def test_strange_headers_stop_nobody(
    site: Site, kafka: EmbeddedKafka, headers: tuple[tuple[str, Any], ...], rejected_for: str | None
) -> None:
    """A header of Kafka's may have no value at all; attributes that the contract does not name are ignored."""
    partition = Partition(site.settings["TOPIC_FEEDBACK"], 0)
    strange = Message(as_json(builders.a_feedback()), headers)
    sound = as_message(builders.a_feedback(event_id="sound"))
    site.start()
    await produce(kafka.bootstrap_servers, [(partition, strange), (partition, sound)])
    status = await site.is_in(2)
    assert sum(status.events.values()) == 2
    assert await _rejected_for(site) == Counter([rejected_for] if rejected_for else [])


async def test_a_header_name_that_is_not_utf_8_stops_nobody(site: Site, kafka: EmbeddedKafka) -> None:
    """Kafka keeps any bytes as a header's name, whatever its clients would send."""
    partition = Partition(site.settings["TOPIC_COMPLAINTS"], 1)
    site.start()
    await produce_with_header_name(kafka.bootstrap_servers, partition, as_json(builders.a_complaint()), b"\xff\xfe")
    await produce(kafka.bootstrap_servers, [(partition, as_message(builders.a_complaint(event_id="sound")))])
    status = await site.is_in(2)
    assert sum(status.events.values()) == 2


async def test_topics_of_one_name_are_read_once(site: Site, kafka: EmbeddedKafka) -> None:
    """Any type travels on any topic, so an installation may have a single one."""
    only = site.settings["TOPIC_ORDERS"]
    site.settings |= dict.fromkeys(TOPIC_SETTINGS, only)
    events = [builders.an_order(), builders.a_return(), builders.a_complaint(), builders.a_customer()]
    site.start()
    await produce(kafka.bootstrap_servers, spread(map(as_message, events), [only], PARTITIONS))
    status = await site.is_in(len(events))
    assert (sum(status.events.values()), len(status.partitions)) == (len(events), PARTITIONS)


async def test_what_unpacks_to_much_more_is_read_in_pieces(site: Site, kafka: EmbeddedKafka) -> None:
    """How much is fetched bounds nothing: a text that repeats itself is packed to a hundredth."""
    text = "late parcel, " * 18_000
    large = [as_message(builders.a_complaint(event_id=f"c{number}", text=text)) for number in range(900)]
    topics = [site.settings[name] for name in TOPIC_SETTINGS]
    await produce(kafka.bootstrap_servers, spread(large, topics, PARTITIONS), compression="gzip")
    worker = site.start()
    status = await site.is_in(len(large))
    assert status.events[Outcome.APPLIED] == len(large)
    assert max(line["messages"] for line in worker.said("batch.recorded")) * len(text) < 100 * 1024 * 1024
