"""Says in the database, every few seconds, that the worker lives and what it is waiting for."""

import asyncio

from ingest_worker import telemetry
from ingest_worker.condition import Awaited, Condition, Part
from ingest_worker.waiting import Backoff, pause
from segmentation.errors import StoreUnavailable
from segmentation.ledger import Ledger

BEAT_SECONDS = 2.0


async def beat(ledger: Ledger, condition: Condition, backoff: Backoff, *, owner: str, stop: asyncio.Event) -> None:
    """Beats until told to stop."""
    while not stop.is_set():
        # What is written gets there, so whatever kept the heartbeat itself from it is over.
        waiting = [wait.described() for wait in condition.waiting if wait.part is not Part.HEARTBEAT]
        try:
            await ledger.beat(owner=owner, waiting_for=waiting)
        except StoreUnavailable as error:
            condition.waits(Part.HEARTBEAT, Awaited.DATABASE, str(error))
            await pause(backoff.next(), unless=stop)
        except Exception as error:  # noqa: BLE001 - events go on being applied while somebody looks into this
            telemetry.alarm("heartbeat.failed")
            condition.waits(Part.HEARTBEAT, Awaited.REPAIR, type(error).__name__)
            await pause(backoff.next(), unless=stop)
        else:
            condition.works(Part.HEARTBEAT)
            backoff.reset()
            await pause(BEAT_SECONDS, unless=stop)
