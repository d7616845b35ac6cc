"""Tells webhooks: changes are posted to whoever asked for them, signed, at least once, in order.

Laws: one elected worker delivers, and two at once would only repeat themselves; of one webhook nothing is sent before
all that came earlier was taken, and one that does not answer keeps no other waiting; neither addresses nor what is sent
is in the log.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from ingest_worker import telemetry
from ingest_worker.condition import Awaited, Condition, Part
from ingest_worker.outbound import NotSent, Outbound
from ingest_worker.telemetry import DutyMetrics
from ingest_worker.waiting import Backoff, pause
from segmentation.errors import StoreUnavailable
from segmentation.ledger import Ledger, Place
from segmentation.streams import ChangeStream
from segmentation.webhooks import (
    MOST_CHANGES,
    Attempt,
    DueWebhook,
    Outgoing,
    Parcel,
    Webhook,
    changes_parcel,
    check_parcel,
    giving_up,
    retry_seconds,
    signed_headers,
)

_PAGE = 500
_AT_ONCE = 20
_IDLE_SECONDS = 0.2
_ELECTION_SECONDS = 2.0
_KEEP_LOG_DAYS = 7
_DROP_ATTEMPTS = 2_000
_DROP_AGAIN_SECONDS = 60.0
_SUCCESS = range(200, 300)


class Deliverer:
    """Stands for election, and delivers while elected."""

    def __init__(
        self,
        ledger: Ledger,
        stream: ChangeStream,
        outgoing: Outgoing,
        outbound: Outbound,
        *,
        give_up_hours: float,
        now: Callable[[], datetime],
        chance: Callable[[], float],
        stop: asyncio.Event,
        condition: Condition,
        metrics: DutyMetrics,
        backoff: Backoff,
    ) -> None:
        self._ledger = ledger
        self._stream = stream
        self._outgoing = outgoing
        self._outbound = outbound
        self._give_up_hours = give_up_hours
        self._now = now
        self._chance = chance
        self._stop = stop
        self._condition = condition
        self._metrics = metrics
        self._backoff = backoff
        self._drop_next = 0.0

    async def run(self) -> None:
        """Delivers until told to stop; what is on its way is waited for."""
        while not self._stop.is_set():
            try:
                async with self._ledger.leading(Place.WEBHOOKS) as elected:
                    while not self._stop.is_set() and not await elected():
                        self._goes_on()
                        await pause(_ELECTION_SECONDS, unless=self._stop)
                    if not self._stop.is_set():
                        await self._deliver_while(elected)
            except StoreUnavailable as error:
                self._condition.waits(Part.WEBHOOKS, Awaited.DATABASE, str(error))
                telemetry.warn("webhooks.waiting", detail=str(error))
                await pause(self._backoff.next(), unless=self._stop)
            except Exception as error:  # noqa: BLE001 - events go on being applied while somebody looks into this
                self._condition.waits(Part.WEBHOOKS, Awaited.REPAIR, type(error).__name__)
                telemetry.alarm("webhooks.failed")
                await pause(self._backoff.next(), unless=self._stop)

    def _goes_on(self) -> None:
        self._condition.works(Part.WEBHOOKS)
        self._backoff.reset()

    async def _deliver_while(self, elected: Callable[[], Awaitable[bool]]) -> None:
        under_way: dict[int, asyncio.Task[None]] = {}
        try:
            while not self._stop.is_set() and await elected():
                # By this one as well as by the relay, which stands still while the broker is away.
                await self._stream.place_changes(limit=_PAGE)
                under_way = {number: task for number, task in under_way.items() if not task.done()}
                due = await self._outgoing.due(except_for=list(under_way))
                for each in itertools.islice(due, _AT_ONCE - len(under_way)):
                    under_way[each.webhook.id] = asyncio.create_task(self._serve(each))
                await self._drop_attempts()
                self._goes_on()
                await pause(_IDLE_SECONDS, unless=self._stop)
        finally:
            if under_way:
                await asyncio.wait(under_way.values())

    async def _serve(self, due: DueWebhook) -> None:
        """One message for one webhook, or a step past what it does not want."""
        try:
            if due.test is not None:
                await self._send(due, check_parcel(due, self._now()))
            else:
                parcel = await self._next_parcel(due.webhook)
                if parcel is not None:
                    await self._send(due, parcel)
        except StoreUnavailable as error:
            telemetry.warn("webhooks.waiting", detail=str(error))
        except Exception:  # noqa: BLE001 - the others are served
            telemetry.alarm("webhooks.failed", webhook=due.webhook.id)
            await pause(self._backoff.next(), unless=self._stop)

    async def _next_parcel(self, webhook: Webhook) -> Parcel | None:
        page = await self._stream.page_after(webhook.position, limit=_PAGE)
        if webhook.position < page.dropped:
            because = f"changes after {webhook.position} were dropped for their age before they were taken"
            await self._outgoing.disable(webhook, because)
            return None
        full = len(page.changes) == _PAGE
        until = webhook.pending or (page.changes[-1].position if full else page.placed)
        wanted = [
            change
            for change in page.changes
            if change.position <= until and webhook.wanted.wants(change.customer_id, change.sides)
        ]
        if wanted:
            return changes_parcel(webhook, wanted[:MOST_CHANGES])
        await self._outgoing.reach(webhook, until)
        return None

    async def _send(self, due: DueWebhook, parcel: Parcel) -> None:
        status, problem = None, None
        began = time.monotonic()
        headers = signed_headers(due.secret, parcel, at=int(self._now().timestamp()))
        try:
            status = await self._outbound.post(due.webhook.url, parcel.body, headers)
            if status not in _SUCCESS:
                problem = f"the answer was {status}; 200 to 299 says that the message was taken"
        except NotSent as error:
            problem = str(error)
        milliseconds = int((time.monotonic() - began) * 1_000)
        attempt = Attempt(parcel.id, parcel.changes, status, problem, milliseconds)
        self._metrics.webhook_attempts.labels("taken" if problem is None else "refused").inc()
        if problem is None:
            await self._outgoing.taken(due.webhook, parcel, attempt)
            return
        because = giving_up(due.webhook, attempt, now=self._now(), hours=self._give_up_hours)
        again_in = retry_seconds(due.webhook.failures, self._chance())
        await self._outgoing.refused(due.webhook, parcel, attempt, again_in=again_in, disabled_because=because)
        # No address and no answer: both may hold what is nobody else's business.
        if because is not None and parcel.last is not None:
            telemetry.page("webhook.disabled", webhook=due.webhook.id, status=status)
        else:
            telemetry.warn("webhook.refused", webhook=due.webhook.id, status=status)

    async def _drop_attempts(self) -> None:
        at = asyncio.get_running_loop().time()
        if at >= self._drop_next:
            self._drop_next = at + _DROP_AGAIN_SECONDS
            if await self._outgoing.drop_attempts(days=_KEEP_LOG_DAYS, limit=_DROP_ATTEMPTS):
                self._drop_next = at
