"""Answers kept as bytes, as long as they are known to be right.

Laws: what is kept was read at one moment, and whatever has touched it since has dropped it; an answer that was read
before a touch that is known by now is given to who waits for it and not kept; nothing is answered from here while the
last look at what changes is older than `TRUSTED_SECONDS`, whatever held it up, by the clock at the moment of the
answer; nobody is kept who is not known, and memory is bounded whatever is asked for.

While the database is out of reach, what is kept goes on, said to be stale, for `AWAY_SECONDS`; the rest is refused.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Final

from segment_api.replies import Reply, render
from segment_api.telemetry import LookupFigures, warn
from segmentation.answers import Answers, Reader
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.errors import StoreUnavailable
from segmentation.fields import CustomerId
from segmentation.ledger import House
from segmentation.watching import TIERS_LAG, Look, Watch

TRUSTED_SECONDS: Final = 0.5
"""What is kept counts for so long after the last look was begun."""

AWAY_SECONDS: Final = 900.0
"""What is kept goes on as stale for so long after the last look, while the database is out of reach."""

KEPT_BYTES: Final = 64 * 1024 * 1024
"""Some sixteen thousand answers."""

_AGAIN_SECONDS = 0.25
_PATIENCE_SECONDS = 1.0
"""Whoever could be given a kept answer waits no longer for the database."""
_TRY_AGAIN_SECONDS = 1.0
_READS_AT_ONCE = 3
_MOST_IN_ONE_READ = 500
_MOST_ASKED_FOR = 1_000
"""By a call about several; more would push out what is asked for one by one."""
_LAG_SECONDS = TIERS_LAG.total_seconds()


@dataclass(slots=True)
class _Kept:
    """One customer's answer, in the languages that were asked for."""

    as_of: date
    basis: str
    replies: dict[str, Reply] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(reply.size for reply in self.replies.values())


@dataclass(slots=True, eq=False)
class _Read:
    """A question to the store that is under way, for everyone who waits for these customers."""

    waiting: dict[CustomerId, list[tuple[str, asyncio.Future[Reply | None]]]]
    basis: str | None
    touched: set[CustomerId] = field(default_factory=set)
    overtaken: bool = False


class Lookups:
    """Where customers stand, from memory where that is right, else from the store."""

    def __init__(
        self,
        reader: Reader,
        house: House,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        most_bytes: int,
        figures: LookupFigures,
    ) -> None:
        self._reader = reader
        self._calendar = BusinessCalendar(house.time_zone) if house.clock == "system" else None
        self._now = now
        self._monotonic = monotonic
        self._most_bytes = most_bytes
        self._figures = figures
        self._kept: OrderedDict[CustomerId, _Kept] = OrderedDict()
        """The one asked for last at the end."""
        self._bytes = 0
        self._look: Look | None = None
        self._following = False
        self._today: tuple[int, date | None] = (-1, None)
        self._wanted: dict[CustomerId, list[tuple[str, asyncio.Future[Reply | None]]]] = {}
        self._reads: dict[_Read, asyncio.Task[None]] = {}
        self._away_until = -math.inf

    def hit(self, customer_id: CustomerId, language: str) -> Reply | None:
        """The answer, if it is kept and may be trusted at this moment; an id that is none is never kept."""
        kept, look = self._kept.get(customer_id), self._look
        if kept is None or look is None:
            return None
        reply = kept.replies.get(language)
        passed = self._monotonic() - look.asked_at
        if reply is None or passed > TRUSTED_SECONDS or not self._following:
            return None
        as_of = look.as_of if self._calendar is None else self._business_day(self._calendar)
        if as_of is None or kept.as_of != as_of or kept.basis is not look.basis:
            return None
        self._kept.move_to_end(customer_id)
        behind = look.unsettled_seconds is not None and look.unsettled_seconds + passed > _LAG_SECONDS
        if behind or look.tiers_as_of is None or look.tiers_as_of < as_of:
            return reply.gone_stale()
        return reply

    async def many(self, customer_ids: Sequence[CustomerId], language: str) -> dict[CustomerId, Reply] | None:
        """The answers about those who are known among several; None where they have to be read all together.

        That is: while memory may not be trusted, where too many are not kept, and where the day has just changed.

        Raises:
            StoreUnavailable: the database is out of reach, and not all of them are kept.
        """
        if not self._is_trusted():
            return None
        found = {each: reply for each in customer_ids if (reply := self.hit(each, language)) is not None}
        missing = [each for each in customer_ids if each not in found]
        if len(missing) > _MOST_ASKED_FOR:
            return None
        self._figures.hit.inc(len(found))
        self._figures.miss.inc(len(missing))
        read = await asyncio.gather(*(self._ask(each, language) for each in missing))
        found |= {each: reply for each, reply in zip(missing, read, strict=True) if reply is not None}
        return found if len({reply.as_of for reply in found.values()}) <= 1 else None

    async def reply(self, customer_id: CustomerId, language: str) -> Reply | None:
        """The answer; None for an unknown customer.

        Raises:
            StoreUnavailable: the database is out of reach, and nothing is kept.
        """
        found = self.hit(customer_id, language)
        if found is not None:
            self._figures.hit.inc()
            return found
        last = self._last_known(customer_id, language)
        if last is not None and self._monotonic() < self._away_until:
            return self._stale(last)
        (self._figures.miss if self._is_trusted() else self._figures.bypassed).inc()
        reading = self._ask(customer_id, language)
        try:
            async with asyncio.timeout(None if last is None else _PATIENCE_SECONDS):
                found = await reading
        except (StoreUnavailable, TimeoutError) as failure:
            if last is None:
                raise
            self._away_until = self._monotonic() + _TRY_AGAIN_SECONDS
            if isinstance(failure, TimeoutError):
                warn("lookup.slow", detail=f"the database has not answered for {_PATIENCE_SECONDS:g} s")
            return self._stale(last)
        return found

    def _stale(self, reply: Reply) -> Reply:
        self._figures.away.inc()
        return reply.gone_stale()

    def _last_known(self, customer_id: CustomerId, language: str) -> Reply | None:
        """What is kept, trusted or not."""
        kept, look = self._kept.get(customer_id), self._look
        if kept is None or look is None or self._monotonic() - look.asked_at > AWAY_SECONDS:
            return None
        return kept.replies.get(language)

    def _is_trusted(self) -> bool:
        look = self._look
        return self._following and look is not None and self._monotonic() - look.asked_at <= TRUSTED_SECONDS

    def _business_day(self, calendar: BusinessCalendar) -> date:
        now = self._now()
        minute = int(now.timestamp()) // 60
        known, day = self._today
        if day is None or known != minute:  # days begin with a minute
            day = calendar.business_day(instant_of(now))
            self._today = minute, day
        return day

    # --- reading what is not kept -----------------------------------------------------------------------------------

    def _ask(self, customer_id: CustomerId, language: str) -> asyncio.Future[Reply | None]:
        """Asks the store for a customer, together with all others who are asked for meanwhile."""
        future: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault(customer_id, []).append((language, future))
        self._read_next()
        return future

    def _read_next(self) -> None:
        if not self._wanted or len(self._reads) >= _READS_AT_ONCE:
            return
        # Only who asked before the read begins is answered by it: nobody gets an answer older than the question.
        some = list(self._wanted)[:_MOST_IN_ONE_READ]
        look = self._look
        read = _Read({each: self._wanted.pop(each) for each in some}, look.basis if look is not None else None)
        self._reads[read] = asyncio.get_running_loop().create_task(self._read(read))

    async def _read(self, read: _Read) -> None:
        try:
            answers = await self._reader.answers(list(read.waiting), now=self._now())
            for customer_id in read.waiting:
                self._hand_out(read, customer_id, answers)
        except BaseException as failure:
            for _, future in (each for waiting in read.waiting.values() for each in waiting):
                if not future.done():
                    future.set_exception(failure if isinstance(failure, Exception) else StoreUnavailable("stopping"))
                    future.exception()  # whoever waited may have gone
            if not isinstance(failure, Exception):
                raise
        finally:
            del self._reads[read]
            self._read_next()

    def _hand_out(self, read: _Read, customer_id: CustomerId, answers: Answers) -> None:
        answer = answers.known.get(customer_id)
        replies: dict[str, Reply] = {}
        for language, future in read.waiting[customer_id]:
            if answer is not None and language not in replies:
                replies[language] = render(answer, language)
            if not future.done():
                future.set_result(replies.get(language))
        if answer is None:
            self._drop(customer_id)
        if answer is None or read.overtaken or customer_id in read.touched:
            return
        look = self._look
        if look is None or read.basis is not look.basis or answers.policy.version != look.policy_version:
            return
        if answer.stale:  # what is kept is not: whether it has become so is found out with each answer
            replies = {language: render(replace(answer, stale=False), language) for language in replies}
        self._keep(customer_id, answer.as_of, read.basis, replies)

    # --- keeping ----------------------------------------------------------------------------------------------------

    def _keep(self, customer_id: CustomerId, as_of: date, basis: str, replies: dict[str, Reply]) -> None:
        kept = self._drop(customer_id)
        if kept is None or kept.as_of != as_of or kept.basis is not basis:
            kept = _Kept(as_of, basis)
        kept.replies |= replies
        if kept.size > self._most_bytes:
            return
        self._kept[customer_id] = kept
        self._bytes += kept.size
        while self._bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size
        self._note_size()

    def _drop(self, customer_id: CustomerId) -> _Kept | None:
        kept = self._kept.pop(customer_id, None)
        if kept is not None:
            self._bytes -= kept.size
        return kept

    def _note_size(self) -> None:
        self._figures.bytes.set(self._bytes)
        self._figures.customers.set(len(self._kept))

    def take(self, look: Look) -> None:
        """Drops what a look says may be another by now."""
        if look.anew or (self._look is not None and self._look.erasures != look.erasures):
            self._kept.clear()
            self._bytes = 0
            for read in self._reads:
                read.overtaken = True
        self._forget(look.touched)
        before = self._look
        # The same object as long as it is the same text: to compare it costs a hit nothing.
        if before is not None and before.basis == look.basis:
            look = replace(look, basis=before.basis)
        self._look = look
        self._following = True
        self._away_until = -math.inf
        self._figures.looked_at.set(self._now().timestamp())
        self._note_size()

    def _forget(self, touched: Iterable[CustomerId]) -> None:
        dropped = 0
        for customer_id in touched:
            dropped += self._drop(customer_id) is not None
        for read in self._reads:
            read.touched.update(customer_id for customer_id in touched if customer_id in read.waiting)
        self._figures.dropped.inc(dropped)

    async def follow(self, watch: Watch) -> None:
        """Follows what changes, for ever; whatever goes wrong, nothing is answered from memory meanwhile."""
        while True:
            try:
                async with aclosing(watch.looks()) as looks:
                    async for look in looks:
                        self.take(look)
            except StoreUnavailable as error:
                warn("feed.cut", detail=str(error))
            except Exception as error:  # noqa: BLE001 - answers go on without what is kept
                warn("feed.failed", error=type(error).__name__, detail=str(error))
            self._following = False
            await asyncio.sleep(_AGAIN_SECONDS)
