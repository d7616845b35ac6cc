"""Puts the worker together: the only place that reads the clock and knows which store there is."""

import asyncio
import os
import secrets
import signal
import socket
from datetime import UTC, datetime
from importlib import resources

from sqlalchemy.ext.asyncio import AsyncEngine

from ingest_worker import telemetry
from ingest_worker.consumer import Session, consume
from ingest_worker.keeper import Keeper
from ingest_worker.relay import Relay
from ingest_worker.settings import WorkerSettings
from segmentation.errors import PolicyInvalid, SettingInvalid
from segmentation.storage import foundation
from segmentation.storage.engine import create_engine
from segmentation.storage.feeds import PostgresFeeds
from segmentation.storage.ledger import PostgresLedger

_CONNECTIONS = 8
"""The consumer's two lanes and its note of the ends, two places held, the keeper's and the relay's work, one spare."""

_GRACE_SECONDS = 20.0


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
        return await foundation.activate_policy(engine, source)
    except PolicyInvalid as error:
        raise PolicyInvalid(f"POLICY_FILE is {settings.policy_file}: {error}") from None


async def run(settings: WorkerSettings) -> None:
    """Runs the worker until SIGTERM or SIGINT: no more polling, finish or drop the batch, leave the group."""
    owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    engine = create_engine(
        settings.database_url.get_secret_value(), application_name="ingest-worker", pool_size=_CONNECTIONS
    )
    try:
        await foundation.open_house(engine, settings.house)
        version = await _activate_policy(engine, settings)
        telemetry.say("worker.started", owner=owner, topics=settings.topics, policy=version)
        ledger = PostgresLedger(engine, settings.house)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    consume(lambda: Session(settings, ledger, owner=owner, now=_now, stop=stop), stop=stop)
                ),
                group.create_task(Keeper(ledger, now=_now, stop=stop).run()),
                group.create_task(Relay(settings, ledger, PostgresFeeds(engine), stop=stop).run()),
            ]

            def begin_to_stop() -> None:
                stop.set()
                # What does not end in its grace time is cancelled: its transaction rolls back.
                loop.call_later(_GRACE_SECONDS, lambda: [task.cancel() for task in tasks])

            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, begin_to_stop)
        await ledger.release(owner=owner)
        telemetry.say("worker.stopped", owner=owner)
    finally:
        await engine.dispose()
