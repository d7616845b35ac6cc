"""Time and tiers: one elected worker sweeps what has come due and keeps the ranking of everyone.

Laws: at most one keeper holds the lock, and losing it twice does no harm: sweeping and settling are
transactions that leave the data right whoever runs them. It sweeps in small batches, so that live
work is never held up for long.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from ingest_worker import telemetry
from ingest_worker.waiting import pause
from segmentation.errors import StoreUnavailable
from segmentation.ledger import Ledger, Place

_SWEEP_CUSTOMERS = 500
_PAUSE_SECONDS = 0.2
_ELECTION_SECONDS = 1.0
_RETRY_SECONDS = 1.0


class Keeper:
    """Stands for election, and keeps the tiers while elected."""

    def __init__(self, ledger: Ledger, *, now: Callable[[], datetime], stop: asyncio.Event) -> None:
        self._ledger = ledger
        self._now = now
        self._stop = stop

    async def run(self) -> None:
        """Keeps until told to stop."""
        while not self._stop.is_set():
            try:
                async with self._ledger.leading(Place.KEEPER) as elected:
                    while not self._stop.is_set():
                        if await elected():
                            await self._keep()
                        else:
                            await pause(_ELECTION_SECONDS, unless=self._stop)
            except StoreUnavailable as error:
                telemetry.warn("keeper.waiting", detail=str(error))
            except Exception:  # noqa: BLE001 - events go on being applied while somebody looks into this
                telemetry.alarm("keeper.failed")
            await pause(_RETRY_SECONDS, unless=self._stop)

    async def _keep(self) -> None:
        if await self._ledger.sweep(now=self._now(), limit=_SWEEP_CUSTOMERS) == _SWEEP_CUSTOMERS:
            return
        if await self._ledger.settle_tiers(now=self._now()):
            telemetry.say("tiers.settled")
        await pause(_PAUSE_SECONDS, unless=self._stop)
