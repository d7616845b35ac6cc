"""One campaign: load and faults, then repair, then the reckoning."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.ledgers import PostgresStore
from tests.support.oracle import Oracle

from chaos import faults, verdict
from chaos.load import ERASED, Traffic
from chaos.network import LOOPBACK
from chaos.schedule import Fault, Kind, Lane, plan
from chaos.site import HOUSE, PARTITIONS, CampaignFailed, Production, Site, read_topic, said
from local_stack.kafka_distribution import KafkaDistribution
from local_stack.ports import free_port
from segmentation.errors import SegmentationError
from segmentation.fields import CustomerId
from segmentation.storage import foundation
from segmentation.storage.engine import create_engine

_CATCH_UP_SECONDS: Final = 240.0
_ASK_SECONDS: Final = 0.5
_API_SECONDS: Final = 60.0
_TERMINATE_SECONDS: Final = 15.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What a campaign is made of."""

    seed: int
    seconds: float = 90.0
    """How long faults begin; the repair and the reckoning come after."""
    workers: int = 2
    per_second: float = 100.0
    """Messages produced."""
    only: Sequence[Kind] = tuple(Kind)


@dataclass(slots=True)
class Report:
    """What became of one campaign."""

    seed: int
    faults: Counter[Kind] = field(default_factory=Counter)
    messages: int = 0
    customers: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    refused_starts: int = 0
    sessions_ended: int = 0
    """How often a worker met a fault in its loop, and began anew."""
    caught_up_seconds: float = 0.0
    """From the end of the faults until everything was read."""
    differences: list[str] = field(default_factory=list)


async def run(options: Options, directory: Path, distribution: KafkaDistribution, say: Say) -> Report:
    """Runs a campaign in an empty directory."""
    report = Report(options.seed)
    say(f"Seed {options.seed}: {options.workers} workers, {options.seconds:.0f} s of faults. Starting the servers …")
    async with Site.open(directory, distribution, workers=options.workers) as site, _engine(site) as engine:
        await _prepare(engine)
        production = Production(
            site.kafka.bootstrap_servers,
            Traffic(options.seed, site.topics, PARTITIONS),
            per_second=options.per_second,
        )
        for slot in site.slots[: options.workers]:
            site.start_worker(slot)
        watching = asyncio.create_task(site.watch())
        production.start()
        try:
            await _under_way(site)
            await _disturb(site, options, report, say)
            say("The faults are over. Producers finish …")
        finally:
            await asyncio.to_thread(production.finish)
        await _repair(site)
        await _reckon(site, engine, production, report, say)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        for slot in site.slots:
            await site.stop_worker(slot)
        report.differences += await verdict.left_behind(engine)
        report.differences += [f"worker: {line}" for line in site.unforeseen]
        report.refused_starts = site.refused_starts
        report.sessions_ended = await asyncio.to_thread(site.times_said, "session.ended")
    return report


@asynccontextmanager
async def _engine(site: Site) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(site.postgres.url, application_name="chaos", pool_size=4)
    yield engine
    await engine.dispose()


async def _prepare(engine: AsyncEngine) -> None:
    await foundation.open_house(engine, HOUSE)
    store = PostgresStore(engine, HOUSE)
    for customer_id in ERASED:
        await store.suppress(CustomerId(customer_id))


async def _under_way(site: Site) -> None:
    """Waits until every worker has been at work: a fault that finds nobody tells nothing."""
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    wanted = [slot for slot in site.slots if slot.wanted]
    while not all(slot.worker and said(slot.worker.log, "batch.recorded") for slot in wanted):
        if time.monotonic() > deadline:
            raise CampaignFailed(f"Not every worker had recorded a batch after {_CATCH_UP_SECONDS:.0f} s.")
        await asyncio.sleep(_ASK_SECONDS)


async def _disturb(site: Site, options: Options, report: Report, say: Say) -> None:
    began = time.monotonic()
    planned = plan(options.seed, seconds=options.seconds, workers=options.workers, only=options.only)

    def told(fault: Fault, line: str) -> None:
        say(f"t+{time.monotonic() - began:5.1f} s  {fault.lane:8}  {line}")

    async def go_through(lane: Lane) -> None:
        for fault in planned:
            if fault.lane is not lane:
                continue
            elapsed = time.monotonic() - began
            if elapsed > options.seconds:
                return
            await asyncio.sleep(fault.at - elapsed)
            told(fault, fault.told())
            report.faults[fault.kind] += 1
            if more := await faults.bring_about(site, fault):
                told(fault, f"  {fault.kind}: {more}")

    async with asyncio.TaskGroup() as lanes:
        for lane in Lane:
            lanes.create_task(go_through(lane))
    # a short plan: the load goes on to its end
    await asyncio.sleep(max(0.0, began + options.seconds - time.monotonic()))


async def _repair(site: Site) -> None:
    """All is as it should be, whatever was done to it."""
    for slot in site.slots:
        slot.database.heal()
        slot.broker.heal()
    await asyncio.to_thread(site.postgres.start)
    await asyncio.to_thread(site.kafka.start)
    for slot in site.slots[:-1]:
        if slot.worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.worker.pid, signal.SIGCONT)
        site.start_worker(slot)


async def _reckon(site: Site, engine: AsyncEngine, production: Production, report: Report, say: Say) -> None:
    servers = site.kafka.bootstrap_servers
    report.messages = len(production.acknowledged)
    began = time.monotonic()
    await _caught_up(engine, site, report)
    report.caught_up_seconds = time.monotonic() - began
    say(f"{report.messages} messages produced, all read {report.caught_up_seconds:.1f} s after the last fault")
    # what was rejected for want of a rate is read again: from here on the set of messages decides everything
    await faults.load_rates(site)
    await asyncio.to_thread(site.ingest_worker, "replay", "--reason", "any")
    await _caught_up(engine, site, report)
    report.differences += await verdict.waiting(engine)

    say("Counting everything again …")
    now = datetime.now(UTC)  # noqa: TID251 - the campaign's one look at the clock
    records = {topic: await asyncio.to_thread(read_topic, servers, topic) for topic in site.topics.inputs}
    log = verdict.log_of(records)
    report.differences += verdict.lost_by_kafka(log, production.acknowledged)
    report.differences += await verdict.differences(engine, log, now)
    oracle = Oracle(verdict.SETTING)
    oracle.erased.update(ERASED)
    for messages in log.values():
        for _, message in messages:
            oracle.read(message, now=now)
    report.outcomes, report.customers = oracle.counts, len(oracle.customers())
    report.differences += await _asked_over_http(site, oracle, now)
    changes, letters = site.topics.names["TOPIC_CHANGES"], site.topics.names["TOPIC_DEAD_LETTERS"]
    report.differences += await verdict.feed_differences(
        engine,
        await asyncio.to_thread(read_topic, servers, changes),
        await asyncio.to_thread(read_topic, servers, letters),
    )


async def _caught_up(engine: AsyncEngine, site: Site, report: Report) -> None:
    """Waits until nothing is left to do, or says what is after a time."""
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    left = "nothing was asked"
    while time.monotonic() < deadline:
        try:
            left = await _left_to_do(engine, report.messages)
        except SegmentationError as error:
            left = str(error)
        if not left:
            return
        await asyncio.sleep(_ASK_SECONDS)
    running = [slot.worker.log.name for slot in site.slots if slot.worker is not None and slot.worker.running]
    report.differences.append(
        f"worker: after {_CATCH_UP_SECONDS:.0f} s without a fault {left}; {', '.join(running) or 'none'} running"
    )


async def _left_to_do(engine: AsyncEngine, messages: int) -> str:
    store = PostgresStore(engine, HOUSE)
    status = await store.status(now=datetime.now(UTC))  # noqa: TID251 - asked for the time it is
    read = sum(status.events.values())
    if read < messages:
        return f"{messages - read} of {messages} messages are unread"
    if not status.tiers_current:
        return "the tiers do not cover all events"
    (feeds,) = await store.rows("""
        SELECT (SELECT count(*) FROM changes) + (SELECT count(*) FROM dead_letters)
             - (SELECT coalesce(sum(relayed), 0) FROM feeds) AS unrelayed
    """)
    return f"{feeds.unrelayed} changes and dead letters are not on their topics" if feeds.unrelayed else ""


async def _asked_over_http(site: Site, oracle: Oracle, now: datetime) -> list[str]:
    port = free_port()
    api = site.start_api(port)
    address = f"http://{LOOPBACK}:{port}"
    try:
        deadline = time.monotonic() + _API_SECONDS
        async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/health/ready")).status_code == httpx.codes.OK:
                        break
                if time.monotonic() > deadline or not api.running:
                    return [f"api: not ready within {_API_SECONDS:.0f} s; {api.last_lines()}"]
                await asyncio.sleep(_ASK_SECONDS)
        return await verdict.http_differences(address, oracle, now)
    finally:
        await asyncio.to_thread(api.stop, seconds=_TERMINATE_SECONDS)
