"""How each fault is brought about, and undone.

Laws: when one of these returns, what it did is undone, whether it came to its end or was cancelled; who does not find
what it was to disturb does nothing.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, assert_never

import asyncpg
import psutil

from chaos.load import rates_file
from chaos.network import BOTH, Direction, Link
from chaos.schedule import Fault, Kind, Lane
from chaos.site import CONNECTIONS, CampaignFailed, Site, Slot

_STRIKE_SECONDS: Final = 0.15
_DELAY_SECONDS: Final = 0.05
_BYTES_A_SECOND: Final = 200_000.0

_STRIKE = """
    -- whoever is in the middle of something, and now and then somebody who is not
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name LIKE 'ingest-worker%' AND (state <> 'idle' OR random() < 0.1)
"""
_END_WORKERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'ingest-worker%'"
_HOT_ROWS = (
    # in the order that all writers keep
    "SELECT FROM customers ORDER BY customer_id LIMIT 20 FOR UPDATE",
    "SELECT FROM house FOR UPDATE",
    "SELECT FROM partitions ORDER BY topic, number FOR UPDATE",
)


async def bring_about(site: Site, fault: Fault) -> str:
    """One fault from its beginning to its end; what else there is to say of it."""
    slot = site.slots[fault.slot]
    match fault.kind:
        case Kind.WORKER_KILLED:
            site.kill_worker(slot)
            await asyncio.sleep(fault.seconds)
            site.start_worker(slot)
        case Kind.WORKER_FROZEN:
            await _frozen(slot.worker.pid if slot.worker else None, fault.seconds)
        case Kind.DUTIES_KILLED:
            return _kill_duties(slot)
        case Kind.WORKERS_ROLLED:
            for each in site.slots[:-1]:
                await site.stop_worker(each)
                await asyncio.sleep(fault.seconds)
                site.start_worker(each)
        case Kind.WORKER_JOINED:
            site.start_worker(site.slots[-1])
            await asyncio.sleep(fault.seconds)
            await site.stop_worker(site.slots[-1])
        case Kind.DATABASE_KILLED | Kind.DATABASE_RESTARTED:
            await asyncio.to_thread(site.postgres.kill if fault.kind is Kind.DATABASE_KILLED else site.postgres.stop)
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(site.postgres.start)
        case Kind.DATABASE_TERMINATED:
            return await _terminated(site, fault.seconds)
        case Kind.DATABASE_FULL:
            return await _out_of_connections(site, fault.seconds)
        case Kind.DATABASE_LOCKED:
            await _locked(site, fault.seconds)
        case Kind.BROKER_KILLED | Kind.BROKER_RESTARTED:
            await asyncio.to_thread(site.kafka.kill if fault.kind is Kind.BROKER_KILLED else site.kafka.stop)
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(site.kafka.start)
        case Kind.BROKER_FROZEN:
            await _frozen(site.kafka.process.pid, fault.seconds)
        case Kind.RATES_LOADED:
            return await _command(site, "load-rates", str(_rates(site)))
        case Kind.REJECTS_REPLAYED:
            return await _command(site, "replay", "--reason", "any")
        case _:
            await _disturbed(site, fault)
    return ""


def _kill_duties(slot: Slot) -> str:
    """The worker's second process alone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(slot.worker.pid).children() if slot.worker else ():
            process.kill()
            return ""
    return "there was none"


async def load_rates(site: Site) -> None:
    """What `rates-loaded` does, for once without a fault."""
    await asyncio.to_thread(site.ingest_worker, "load-rates", str(_rates(site)))


def _rates(site: Site) -> os.PathLike[str]:
    file = site.directory / "rates.csv"
    file.write_text(rates_file(), encoding="utf-8")
    return file


async def _command(site: Site, *arguments: str) -> str:
    try:
        return await asyncio.to_thread(site.ingest_worker, *arguments)
    except CampaignFailed as failed:
        # the database may be away at this moment: then it says so, and an operator gives the command again
        return str(failed).strip()


async def _frozen(group: int | None, seconds: float) -> None:
    """Every process of a group; each child of the campaign leads one."""
    if group is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.killpg(group, signal.SIGCONT)


async def _terminated(site: Site, seconds: float) -> str:
    ended = 0
    until = time.monotonic() + seconds
    async with _connected(site) as connection:
        while time.monotonic() < until:
            ended += await connection.fetchval(_STRIKE)
            await asyncio.sleep(_STRIKE_SECONDS)
    return f"{ended} connections ended"


async def _out_of_connections(site: Site, seconds: float) -> str:
    """Takes every connection there is, those that the workers had among them."""
    taken: list[asyncpg.Connection[asyncpg.Record]] = []
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            try:
                taken.append(await asyncpg.connect(site.postgres.url, timeout=5))
            except (asyncpg.PostgresError, OSError):
                await taken[0].execute(_END_WORKERS)
                await asyncio.sleep(_STRIKE_SECONDS)
    finally:
        for connection in taken:
            connection.terminate()
    return f"{len(taken)} of {CONNECTIONS} connections taken"


async def _locked(site: Site, seconds: float) -> None:
    async with _connected(site) as connection, connection.transaction():
        for statement in _HOT_ROWS:
            await connection.execute(statement)
        await asyncio.sleep(seconds)


@asynccontextmanager
async def _connected(site: Site) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    async with site.connect() as connection:
        yield connection


async def _disturbed(site: Site, fault: Fault) -> None:
    """What befalls links."""
    slots = site.slots if fault.everyone else [site.slots[fault.slot]]
    links = [_link(slot, fault.lane) for slot in slots]
    disturb = _disturbance(fault)
    try:
        for link in links:
            disturb(link)
        await asyncio.sleep(fault.seconds)
    finally:
        for link in links:
            link.heal()


def _link(slot: Slot, lane: Lane) -> Link:
    return slot.database if lane is Lane.DATABASE else slot.broker


def _disturbance(fault: Fault) -> Callable[[Link], None]:
    match fault.kind:
        case Kind.DATABASE_SLOW | Kind.BROKER_SLOW:
            return lambda link: link.slow(delay_seconds=_DELAY_SECONDS, bytes_a_second=_BYTES_A_SECOND)
        case Kind.DATABASE_STALLED | Kind.BROKER_STALLED:
            ways = BOTH if fault.way == "both" else {Direction(fault.way)}
            return lambda link: link.stall(*ways)
        case Kind.DATABASE_CUT | Kind.BROKER_CUT:
            return lambda link: link.cut()
        case Kind.DATABASE_DEAF | Kind.BROKER_DEAF:
            return lambda link: link.swallow(Direction.REQUESTS)
        case Kind.DATABASE_DUMB | Kind.BROKER_DUMB:
            return lambda link: link.swallow(Direction.ANSWERS)
        case (
            Kind.WORKER_KILLED
            | Kind.WORKER_FROZEN
            | Kind.DUTIES_KILLED
            | Kind.WORKERS_ROLLED
            | Kind.WORKER_JOINED
            | Kind.DATABASE_KILLED
            | Kind.DATABASE_RESTARTED
            | Kind.DATABASE_TERMINATED
            | Kind.DATABASE_FULL
            | Kind.DATABASE_LOCKED
            | Kind.BROKER_KILLED
            | Kind.BROKER_RESTARTED
            | Kind.BROKER_FROZEN
            | Kind.RATES_LOADED
            | Kind.REJECTS_REPLAYED
        ):
            raise ValueError(f"{fault.kind} befalls no link")
        case _:
            assert_never(fault.kind)
