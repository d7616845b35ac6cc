"""What stands at the end, held against what should: each difference is a sentence.

Laws: what should stand is counted from the bytes on the topics alone, by the oracle and by the pure rules over a ledger
in memory; what stands is read from the database, from the API over HTTP, and from the topics that are written to.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.ledgers import NO_GRACE, PostgresStore, expected, in_memory, reading, settle, state_of
from tests.support.oracle import Message, Oracle, Setting

from chaos.load import ERASED, RATES
from chaos.site import HOUSE, Record
from segmentation.assessment import Snapshot
from segmentation.fields import CustomerId
from segmentation.ledger import Batch, PartitionProgress
from segmentation.outcomes import Partition

SETTING: Final = Setting(HOUSE.base_currency, HOUSE.time_zone, HOUSE.clock, rates=RATES)

Topic = Mapping[Partition, Sequence[tuple[int, Message]]]
"""What is on each partition, in order: offset and message."""

_PARTITIONS = """
    SELECT topic, number, next_offset, end_offset, applied, duplicate, rejected, suppressed FROM partitions
"""
_LETTERS = """
    SELECT id, topic, partition, "offset", reason, replayed_as, position FROM dead_letters ORDER BY id
"""
_LEFT_BEHIND = """
    SELECT 'an advisory lock (' || classid || ', ' || objid || ')' AS what FROM pg_locks WHERE locktype = 'advisory'
    UNION ALL
    SELECT application_name || ' is ' || state FROM pg_stat_activity
    WHERE application_name IN ('ingest-worker', 'ingest-worker-duties', 'replay', 'load-rates')
"""
_IDLE = """
    SELECT application_name || ' is idle in a transaction for ' || (now() - state_change) AS what FROM pg_stat_activity
    WHERE state LIKE 'idle in transaction%' AND now() - state_change > interval '3 s'
    UNION ALL
    SELECT application_name || ' waits for a lock for ' || (now() - state_change) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND now() - state_change > interval '3 s'
"""


def log_of(records: Mapping[str, Sequence[Record]]) -> Topic:
    """What was read of each topic, by partition."""
    log: dict[Partition, list[tuple[int, Message]]] = defaultdict(list)
    for topic, some in records.items():
        for record in some:
            log[Partition(topic, record.partition)].append((record.offset, record.message))
    return log


async def differences(engine: AsyncEngine, log: Topic, now: datetime) -> list[str]:
    """Everything in the database that is not what the messages make of it."""
    oracle = Oracle(SETTING)
    oracle.erased.update(ERASED)
    counts: dict[Partition, Counter[str]] = {}
    refused: dict[tuple[str, int, int], str] = {}
    for partition, messages in log.items():
        counts[partition] = Counter()
        for offset, message in messages:
            outcome, reason = oracle.read(message, now=now)
            counts[partition][outcome] += 1
            if reason is not None:
                refused[(*partition, offset)] = reason
    store = PostgresStore(engine, HOUSE)
    return [
        *await _count_differences(store, log, counts),
        *await _letter_differences(store, refused),
        *await _state_differences(store, oracle, now),
        *await _decision_differences(store, log, now),
    ]


async def _count_differences(store: PostgresStore, log: Topic, counts: Mapping[Partition, Counter[str]]) -> list[str]:
    found: list[str] = []
    rows = {Partition(row.topic, row.number): row for row in await store.rows(_PARTITIONS)}
    for partition in sorted(rows.keys() | log.keys()):
        row, read = rows.get(partition), counts.get(partition, Counter())
        name, messages = f"{partition.topic}/{partition.number}", log.get(partition, ())
        if row is None:
            found.append(f"counts: {name}: never claimed, {len(messages)} messages unread")
            continue
        end = messages[-1][0] + 1 if messages else 0
        if (row.next_offset or 0) != end:
            found.append(f"counts: {name}: read up to offset {row.next_offset}, the broker has messages up to {end}")
        told = {"rejected": row.rejected, "suppressed": row.suppressed, "known": row.applied + row.duplicate}
        should = {
            "rejected": read["rejected"],
            "suppressed": read["suppressed"],
            # which of two equal messages on different partitions came first is nobody's business
            "known": read["applied"] + read["duplicate"],
        }
        found += [
            f"counts: {name}: {told[kind]} {kind}, it should be {should[kind]}"
            for kind in should
            if told[kind] != should[kind]
        ]
    for outcome in ("applied", "duplicate"):
        stands = sum(getattr(row, outcome) for row in rows.values())
        should_stand = sum(read[outcome] for read in counts.values())
        if stands != should_stand:
            found.append(f"counts: {stands} {outcome} in all, it should be {should_stand}")
    kept = (await store.rows("SELECT count(*) AS events FROM events"))[0].events
    applied = sum(read["applied"] for read in counts.values())
    if kept != applied:
        found.append(f"counts: {kept} events are kept, {applied} should be")
    return found


async def _letter_differences(store: PostgresStore, refused: Mapping[tuple[str, int, int], str]) -> list[str]:
    found: list[str] = []
    letters = await store.rows(_LETTERS)
    places = Counter((letter.topic, letter.partition, letter.offset) for letter in letters)
    found += [f"quarantine: {place} is there {times} times" for place, times in places.items() if times > 1]
    standing = {
        (letter.topic, letter.partition, letter.offset): letter.reason
        for letter in letters
        if letter.replayed_as is None
    }
    for place in sorted(standing.keys() | refused.keys()):
        if standing.get(place) != refused.get(place):
            found.append(f"quarantine: {place} is {standing.get(place)}, it should be {refused.get(place)}")
    return found


async def _state_differences(store: PostgresStore, oracle: Oracle, now: datetime) -> list[str]:
    should, stands = expected(oracle, now), await state_of(store, now)
    found: list[str] = []
    if stands.as_of != should.as_of:
        found.append(f"as_of: {stands.as_of}, it should be {should.as_of}")
    if stands.cutoffs != should.cutoffs:
        found.append(f"cut-offs: {stands.cutoffs}, they should be {should.cutoffs}")
    found += _unequal("metrics", stands.metrics, should.metrics)
    found += _unequal("tier", stands.computed_tiers, should.computed_tiers)
    found += _unequal("profile", stands.profiles, should.profiles)
    return found


async def _decision_differences(store: PostgresStore, log: Topic, now: datetime) -> list[str]:
    """Segments, lifecycles, effective tiers and service levels: with a grace of 0 the set of events decides them."""
    memory = await in_memory(SETTING, NO_GRACE)
    for customer_id in ERASED:
        await memory.suppress(CustomerId(customer_id))
    claims = await memory.claim(log, owner="recount")
    for partition, messages in log.items():
        readings = [reading(message, partition, offset) for offset, message in messages]
        end = messages[-1][0] + 1
        progress = {partition: PartitionProgress(claims[partition], end, end)}
        await memory.record(Batch(readings, progress), owner="recount", now=now)
    await settle(memory, now=now, limit=10_000)
    return list(_unequal("decision", _decisions(await store.snapshots()), _decisions(await memory.snapshots())))


def _decisions(snapshots: Mapping[CustomerId, Snapshot]) -> dict[str, Any]:
    return {
        str(customer_id): {
            "tier": snapshot.tier,
            "lifecycle": snapshot.lifecycle,
            "segment": snapshot.segment,
            "service_level": snapshot.service_level,
            "churn_warning": snapshot.churn_warning,
            "outlook": snapshot.outlook,
            "value": snapshot.value,
        }
        for customer_id, snapshot in snapshots.items()
    }


async def http_differences(address: str, oracle: Oracle, now: datetime) -> list[str]:
    """What the API says otherwise."""
    as_of = oracle.as_of(now)
    if as_of is None:
        return []
    found: list[str] = []
    async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False) as client:
        status = (await client.get("/ingest/status")).json()
        if status["events"] != oracle.counts:
            found.append(f"GET /ingest/status: events are {status['events']}, they should be {oracle.counts}")
        if status["lag"] != 0 or status["tiers"]["current"] is not True:
            found.append(f"GET /ingest/status: lag {status['lag']}, tiers {status['tiers']}")
        customers = oracle.customers()
        if status["customers"] != len(customers):
            found.append(f"GET /ingest/status: {status['customers']} customers, there should be {len(customers)}")
        answers: dict[str, Any] = {}
        for customer_id in customers:
            answer = await client.get(f"/customers/{customer_id}/metrics")
            answers[customer_id] = answer.json() if answer.status_code == httpx.codes.OK else answer.status_code
        found += _unequal("GET /metrics", answers, {each: oracle.metrics(each, as_of) for each in customers})
        tiers = (await client.get("/tiers")).json()
        told = {row["tier"]: row["customers"] for row in tiers["tiers"]}
        counted = Counter(oracle.computed_tiers(as_of).values())
        if {tier: number for tier, number in told.items() if number} != dict(counted):
            found.append(f"GET /tiers: {told}, it should be {dict(counted)}")
    return found


async def feed_differences(engine: AsyncEngine, changes: Sequence[Record], letters: Sequence[Record]) -> list[str]:
    """What the output topics say otherwise: at least once, per customer in order, ending with what stands."""
    store = PostgresStore(engine, HOUSE)
    found: list[str] = []
    highest: dict[str, int] = {}
    last: dict[str, Any] = {}
    seen: set[int] = set()
    for record in changes:
        body = json.loads(record.message.value or b"null")
        customer_id, sequence = body["customer_id"], body["sequence"]
        if (record.key or b"").decode() != customer_id:
            found.append(f"changes: {customer_id} is announced under the key {record.key!r}")
        if sequence > highest.get(customer_id, 0):
            highest[customer_id], last[customer_id] = sequence, body["after"]
        elif sequence not in seen:
            found.append(f"changes: {customer_id}: {sequence} comes first after {highest[customer_id]}")
        seen.add(sequence)
    rows = await store.rows("SELECT position FROM changes")
    placed = {row.position for row in rows}
    if None in placed:
        found.append("changes: some have no place in the feed")
    if missing := placed - seen - {None}:
        found.append(f"changes: {len(missing)} never reached the topic, {min(missing)} first")
    standing = {
        str(customer_id): {
            "value_tier": str(snapshot.tier),
            "segment": snapshot.shown_segment,
            "service_level": snapshot.service_level,
            "churn_warning": snapshot.churn_warning,
        }
        for customer_id, snapshot in (await store.snapshots()).items()
    }
    found += _unequal("last change", last, standing)
    announced = {dict(record.message.headers).get("tierline-id", b"").decode() for record in letters}
    quarantined = {str(row.id) for row in await store.rows(_LETTERS)}
    if unsaid := quarantined - announced:
        found.append(f"dead letters: {len(unsaid)} were never announced, {min(unsaid)} among them")
    if unknown := announced - quarantined:
        found.append(f"dead letters: {len(unknown)} announced that are not there: {sorted(unknown)[:3]}")
    return found


async def waiting(engine: AsyncEngine) -> list[str]:
    """Transactions that nobody goes on with, while the workers are idle."""
    rows = await PostgresStore(engine, HOUSE).rows(_IDLE)
    return [f"left waiting: {row.what}" for row in rows]


async def left_behind(engine: AsyncEngine) -> list[str]:
    """What is still there of workers that have ended."""
    rows = await PostgresStore(engine, HOUSE).rows(_LEFT_BEHIND)
    owners = await PostgresStore(engine, HOUSE).rows("SELECT DISTINCT owner FROM partitions WHERE owner IS NOT NULL")
    return [f"left behind: {row.what}" for row in rows] + [f"left behind: {row.owner} owns" for row in owners]


def lost_by_kafka(log: Topic, acknowledged: Mapping[tuple[str, int, int], Message]) -> list[str]:
    """What Kafka acknowledged and does not have: then the campaign says nothing about the workers."""
    there = {(*partition, offset): message for partition, messages in log.items() for offset, message in messages}
    missing = [place for place, message in acknowledged.items() if there.get(place) != message]
    return [f"broker: {len(missing)} acknowledged messages are not there, {missing[0]} first"] if missing else []


def _unequal(what: str, stands: Mapping[str, Any], should: Mapping[str, Any]) -> Iterable[str]:
    for customer_id in sorted(stands.keys() | should.keys()):
        one, other = stands.get(customer_id), should.get(customer_id)
        if one != other:
            yield f"{what}: {customer_id}: {'; '.join(_parts(one, other))}"


def _parts(one: Any, other: Any, path: str = "") -> Iterable[str]:  # noqa: ANN401 - JSON values
    """The parts in which two values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in [*one, *(name for name in other if name not in one)]:
            if one.get(name) != other.get(name):
                yield from _parts(one.get(name), other.get(name), f"{path}.{name}" if path else str(name))
    else:
        yield f"{path + ' ' if path else ''}is {one}, it should be {other}"
