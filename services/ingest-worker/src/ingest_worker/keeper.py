"""Time and tiers: one elected worker sweeps what has come due and keeps the ranking of everyone.

Laws: at most one keeper holds the lock, and losing it twice does no harm: sweeping and settling are
transactions that leave the data right whoever runs them. It sweeps in small batches, so that live
work is never held up for long, and settles between them, since a model has everyone looked at anew each day; once
nothing is due it drops raw events that have grown too old.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from ingest_worker import telemetry
from ingest_worker.condition import Awaited, Condition, Part
from ingest_worker.telemetry import DutyMetrics
from ingest_worker.waiting import Backoff, pause
from segmentation.errors import StoreUnavailable
from segmentation.ledger import Ledger, Place, Retention

_SWEEP_CUSTOMERS = 500
_PAUSE_SECONDS = 0.2
_REST_SHARE = 2.0
"""After a settling another is soon wanted; before that, batches have so many times as long as it took to themselves."""

_LEAST_REST_SECONDS, _MOST_REST_SECONDS = 0.05, 0.2
_ELECTION_SECONDS = 1.0
_DROP_EVENTS = 1_000
_DROP_AGAIN_SECONDS = 600.0
_FORGET_SECONDS = 20.0


class Keeper:
    """Stands for election, and keeps the tiers while elected."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        now: Callable[[], datetime],
        stop: asyncio.Event,
        condition: Condition,
        metrics: DutyMetrics,
        backoff: Backoff,
        retention: Retention | None = None,
        retain_days: int | None = None,
    ) -> None:
        self._ledger = ledger
        self._now = now
        self._stop = stop
        self._condition = condition
        self._metrics = metrics
        self._backoff = backoff
        self._retention = retention
        self._retain_days = retain_days
        self._drop_next = 0.0
        self._forget_next = 0.0

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
                        self._condition.works(Part.KEEPER)
                        self._backoff.reset()
            except StoreUnavailable as error:
                self._condition.waits(Part.KEEPER, Awaited.DATABASE, str(error))
                telemetry.warn("keeper.waiting", detail=str(error))
            except Exception as error:  # noqa: BLE001 - events go on being applied while somebody looks into this
                self._condition.waits(Part.KEEPER, Awaited.REPAIR, type(error).__name__)
                telemetry.alarm("keeper.failed")
            await pause(self._backoff.next(), unless=self._stop)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        swept = await self._ledger.sweep(now=self._now(), limit=_SWEEP_CUSTOMERS)
        self._metrics.swept.inc(swept)
        # Between two batches as well: it waits by itself for those whose tier depends on it, and for no others.
        settled = await self._ledger.settle_tiers(now=self._now())
        if settled:
            self._metrics.settlings.inc()
            telemetry.say("tiers.settled")
        if swept == _SWEEP_CUSTOMERS:
            return
        await self._drop_expired()
        rest = min(max(_LEAST_REST_SECONDS, _REST_SHARE * (loop.time() - began)), _MOST_REST_SECONDS)
        await pause(rest if settled else _PAUSE_SECONDS, unless=self._stop)

    async def _drop_expired(self) -> None:
        """One small step, once nothing is due; further ones follow between other work."""
        time = asyncio.get_running_loop().time()
        if self._retention is None:
            return
        if time >= self._forget_next:
            self._forget_next = time + _FORGET_SECONDS
            await self._retention.forget_touched()
        if self._retain_days is None or time < self._drop_next:
            return
        # After a failure as well: what cannot be dropped must not keep the tiers waiting.
        self._drop_next = time + _DROP_AGAIN_SECONDS
        if await self._retention.drop_expired(days=self._retain_days, now=self._now(), limit=_DROP_EVENTS):
            self._drop_next = time
