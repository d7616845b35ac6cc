"""Puts the worker together: the only place that reads the clock and knows which store there is."""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import UTC, datetime
from importlib import resources

from sqlalchemy.ext.asyncio import AsyncEngine

from ingest_worker import health, telemetry
from ingest_worker.condition import Condition
from ingest_worker.consumer import Session, consume
from ingest_worker.duty_process import DutyProcess, reporting
from ingest_worker.heartbeat import BEAT_SECONDS, beat
from ingest_worker.keeper import Keeper
from ingest_worker.outbound import Outbound
from ingest_worker.relay import Relay
from ingest_worker.settings import WorkerSettings
from ingest_worker.telemetry import DutyMetrics, Metrics
from ingest_worker.waiting import Backoff
from ingest_worker.watchdog import Watchdog
from ingest_worker.webhooks import Deliverer
from segmentation.errors import PolicyInvalid, SettingInvalid, StoreUnavailable
from segmentation.storage import foundation
from segmentation.storage.engine import create_engine
from segmentation.storage.feeds import PostgresFeeds
from segmentation.storage.full_snapshots import PostgresFullSnapshots
from segmentation.storage.ledger import PostgresLedger
from segmentation.storage.retention import PostgresRetention
from segmentation.storage.webhooks import PostgresWebhooks

_READING_CONNECTIONS = 6
"""Two lanes, the note of the ends, the heartbeat, two spare."""

_DUTY_CONNECTIONS = 8
"""Three places held, work of keeper, relay and webhooks, two spare."""

_GRACE_SECONDS = 20.0
_DUTY_GRACE_SECONDS = 12.0
"""Over before that of the process that waits for it."""

_RELEASE_SECONDS = 5.0


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the worker's one look at the clock


def read_policy(settings: WorkerSettings) -> str:
    """The policy that the settings name, or the one shipped.

    Raises:
        SettingInvalid: the file cannot be read.
    """
    if settings.policy_file is None:
        return resources.files("segmentation").joinpath("policies/default.toml").read_text(encoding="utf-8")
    try:
        return settings.policy_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"POLICY_FILE is {settings.policy_file}: it cannot be read ({error})") from None


async def _activate_policy(engine: AsyncEngine, settings: WorkerSettings) -> int:
    source = read_policy(settings)
    try:
        return await foundation.activate_policy(engine, source, shipped=settings.policy_file is None)
    except PolicyInvalid as error:
        raise PolicyInvalid(f"POLICY_FILE is {settings.policy_file}: {error}") from None


async def _release(ledger: PostgresLedger, owner: str) -> None:
    """Says in the database that nobody reads these partitions; who claims them next does not depend on it."""
    try:
        async with asyncio.timeout(_RELEASE_SECONDS):
            await ledger.release(owner=owner)
    except (StoreUnavailable, TimeoutError) as error:
        telemetry.warn("worker.not_released", error=type(error).__name__, detail=str(error))


async def run(settings: WorkerSettings) -> None:
    """Runs the worker until SIGTERM or SIGINT: no more polling, finish or drop the batch, leave the group."""
    listener = None
    if settings.worker_http_port is not None:
        listener = health.listen(settings.worker_http_host, settings.worker_http_port)
    with listener or contextlib.nullcontext():
        await _read(settings, listener)


async def _read(settings: WorkerSettings, listener: socket.socket | None) -> None:
    owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    async with _engine(settings, application_name="ingest-worker", connections=_READING_CONNECTIONS) as engine:
        await foundation.open_house(engine, settings.house)
        version = await _activate_policy(engine, settings)
        telemetry.say("worker.started", owner=owner, topics=settings.topics, policy=version)
        ledger = PostgresLedger(engine, settings.house, settings.reject_budget)
        stop = asyncio.Event()
        condition, metrics, watchdog = Condition(now=_now, monotonic=time.monotonic), Metrics(), Watchdog()
        consuming, starting = Backoff(chance=random.random), Backoff(chance=random.random)
        beating = Backoff(chance=random.random, longest_seconds=BEAT_SECONDS)

        def new_session() -> Session:
            return Session(
                settings,
                ledger,
                owner=owner,
                now=_now,
                stop=stop,
                condition=condition,
                metrics=metrics,
                backoff=consuming,
                watchdog=watchdog,
            )

        duties = DutyProcess(stop=stop, condition=condition, backoff=starting)
        work = [
            consume(new_session, stop=stop, condition=condition, metrics=metrics, backoff=consuming),
            duties.run(),
            beat(ledger, condition, beating, owner=owner, stop=stop),
        ]
        if listener is not None:
            app = health.application(condition, metrics, lambda: duties.metrics)
            work.append(health.serve(listener, app, stop=stop))
        await _until_stopped(work, stop, grace_seconds=_GRACE_SECONDS)
        await _release(ledger, owner)
        telemetry.say("worker.stopped", owner=owner)


async def run_duties(settings: WorkerSettings) -> None:
    """Runs what one elected worker does for all, until told to stop; how it is goes to standard output."""
    condition, metrics = Condition(now=_now, monotonic=time.monotonic), DutyMetrics()
    async with (
        reporting(condition, metrics),
        _engine(settings, application_name="ingest-worker-duties", connections=_DUTY_CONNECTIONS) as engine,
    ):
        ledger = PostgresLedger(engine, settings.house, settings.reject_budget)
        stop = asyncio.Event()
        keeping, relaying, delivering = (Backoff(chance=random.random) for _ in range(3))
        keeper = Keeper(
            ledger,
            now=_now,
            stop=stop,
            condition=condition,
            metrics=metrics,
            backoff=keeping,
            retention=PostgresRetention(engine, settings.house),
            retain_days=settings.retain_events_days,
        )
        feeds = PostgresFeeds(engine)
        relay = Relay(
            settings,
            ledger,
            feeds,
            PostgresFullSnapshots(engine),
            stop=stop,
            condition=condition,
            metrics=metrics,
            backoff=relaying,
        )
        deliverer = Deliverer(
            ledger,
            feeds,
            PostgresWebhooks(engine),
            Outbound(settings.webhook_rules),
            give_up_hours=settings.webhook_give_up_hours,
            now=_now,
            chance=random.random,
            stop=stop,
            condition=condition,
            metrics=metrics,
            backoff=delivering,
        )
        work = [keeper.run(), relay.run(), deliverer.run()]
        await _until_stopped(work, stop, grace_seconds=_DUTY_GRACE_SECONDS)


@contextlib.asynccontextmanager
async def _engine(settings: WorkerSettings, *, application_name: str, connections: int) -> AsyncIterator[AsyncEngine]:
    url = settings.database_url.get_secret_value()
    engine = create_engine(url, application_name=application_name, pool_size=connections, asks_by_keys=True)
    try:
        yield engine
    finally:
        # What a dumb connection is not told, it learns from the end of the process.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                await engine.dispose()


async def _until_stopped(
    work: Sequence[Coroutine[None, None, None]], stop: asyncio.Event, *, grace_seconds: float
) -> None:
    """Does it all beside each other until a signal sets the event."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]

        def begin_to_stop() -> None:
            stop.set()
            # What does not end in its grace time is cancelled: its transaction rolls back.
            loop.call_later(grace_seconds, lambda: [task.cancel() for task in tasks])

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, begin_to_stop)
