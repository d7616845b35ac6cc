"""Changes for many listeners at once: one look at the database a tick for all of them.

Laws: a listener gets every change after its position once, in order, or is told from where to resume; what is kept for
listeners is bounded, and so is what they ask of the database; without listeners nothing is asked at all.

The last changes are kept in memory. A listener has a position of its own among them, so none needs a buffer: one that
begins further back reads pages of the database until it has caught up; one that falls behind what is kept is let go.
"""

import asyncio
import bisect
import contextlib
import enum
import logging
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from segmentation.errors import StoreUnavailable
from segmentation.feeds import ChangeAnnouncement
from segmentation.streams import ChangeStream

MOST_LISTENERS: Final = 1_000
_KEPT: Final = 10_000
_PAGE: Final = 500
_PAGES_AT_ONCE: Final = 2
_PAGES_TO_BEGIN: Final = 20
_TICK_SECONDS: Final = 0.2
_AWAY_SECONDS: Final = 1.0
_HEARTBEAT_SECONDS: Final = 15.0

_log = logging.getLogger(__name__)

Side = Mapping[str, str]
"""Tier, segment and service level, under the names that messages give them."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A change as listeners get it."""

    position: int
    customer_id: str
    sides: tuple[Side, ...]
    """Where the customer stood, unless it was unknown, and where it stands."""
    text: str
    """The message, as it is on the topic of changes; of an erasure the notice."""
    erased: bool


class Ending(enum.StrEnum):
    """Why a listener is let go; it may come again with the position it has."""

    DONE = "done"
    """It wanted to wait no longer."""
    LAGGING = "lagging"
    """It took longer than changes are kept in memory."""
    DROPPED = "dropped"
    """It was so slow that what comes next was dropped for its age."""
    CLOSING = "closing"
    """The service ends."""
    UNAUTHORIZED = "unauthorized"
    """Its key or token counts no more; whoever tells it finds that out, not the hub."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What a listener gets next: changes, or none as a sign of life."""

    position: int
    """Up to which it has everything now."""
    changes: Sequence[Heard] = ()
    ending: Ending | None = None
    """The last piece says why there is no more."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a listener begins."""

    position: int
    last: int
    """The last change that there was when it came."""


class TooManyListeners(Exception):
    """No more at once."""


class PositionDropped(Exception):
    """Changes after the position are kept no more; says from where on they are."""

    def __init__(self, kept_after: int) -> None:
        super().__init__(kept_after)
        self.kept_after = kept_after


class PositionAhead(Exception):
    """No change has that position yet."""

    def __init__(self, last: int) -> None:
        super().__init__(last)
        self.last = last


class ChangeHub:
    """One for each process."""

    def __init__(
        self,
        stream: ChangeStream,
        *,
        kept: int = _KEPT,
        heartbeat_seconds: float = _HEARTBEAT_SECONDS,
        most_listeners: int = MOST_LISTENERS,
    ) -> None:
        self._stream = stream
        self._most_kept = kept
        self._heartbeat_seconds = heartbeat_seconds
        self._most_listeners = most_listeners
        self._recent: list[Heard] = []
        self._floor: int | None = None
        """Every change after it, up to `_head`, is among the recent ones; None until the first look."""
        self._head = 0
        self._news = asyncio.Event()
        self._listeners = 0
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        self._pages = asyncio.Semaphore(_PAGES_AT_ONCE)

    @property
    def listeners(self) -> int:
        """How many there are."""
        return self._listeners

    def close(self) -> None:
        """Lets everybody go, before the process ends."""
        self._closed = True
        self._tell()

    async def begin(self, after: int | None) -> Start:
        """Where a listener begins: at the position given, or behind the last change.

        Raises:
            TooManyListeners: there is no room for another one.
            PositionDropped: what comes next is kept no more.
            PositionAhead: nothing has that position yet.
            StoreUnavailable: the database is away.
        """
        if self._listeners >= self._most_listeners:
            raise TooManyListeners
        return await self.check(after)

    async def check(self, after: int | None) -> Start:
        """The same for whoever does not listen here."""
        for _ in range(_PAGES_TO_BEGIN):
            if await self._stream.place_changes(limit=_PAGE) < _PAGE:
                break
        page = await self._stream.page_after(after or 0, limit=0)
        if after is not None and after < page.dropped:
            raise PositionDropped(page.dropped)
        if after is not None and after > page.placed:
            raise PositionAhead(page.placed)
        return Start(page.placed if after is None else after, page.placed)

    async def follow(self, start: Start, *, wait_seconds: float | None = None) -> AsyncGenerator[Piece]:
        """What comes after a position, piece by piece; without `wait_seconds` for ever.

        With it, it ends once so many seconds have passed and everything is told that was there at the start.
        """
        with self._listening():
            until = None if wait_seconds is None else _time() + wait_seconds
            position, live = start.position, False
            while True:
                news = self._news
                if self._closed:
                    yield Piece(position, ending=Ending.CLOSING)
                    return
                piece = Piece(position)
                if self._floor is not None and position >= self._floor:
                    live = True
                    piece = self._after(position)
                elif self._floor is not None:
                    piece = Piece(position, ending=Ending.LAGGING) if live else await self._page(position, self._floor)
                if piece.position > position or piece.ending is not None:
                    yield piece
                    if piece.ending is not None:
                        return
                    position = piece.position
                    continue
                seconds = self._heartbeat_seconds
                if until is not None and position >= start.last:
                    if _time() >= until:
                        yield Piece(position, ending=Ending.DONE)
                        return
                    seconds = min(seconds, until - _time())
                try:
                    await asyncio.wait_for(news.wait(), seconds)
                except TimeoutError:
                    yield piece

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        self._listeners += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._listeners -= 1

    def _after(self, position: int) -> Piece:
        start = bisect.bisect_right(self._recent, position, key=lambda heard: heard.position)
        return Piece(max(self._head, position), self._recent[start:])

    async def _page(self, position: int, floor: int) -> Piece:
        async with self._pages:
            try:
                # A listener that goes meanwhile leaves no transaction open.
                page = await asyncio.shield(self._stream.page_after(position, limit=_PAGE))
            except StoreUnavailable:
                await asyncio.sleep(_AWAY_SECONDS)
                return Piece(position)
        if position < page.dropped:
            return Piece(position, ending=Ending.DROPPED)
        # A page that is not full has all there was, so all up to what is in memory.
        reached = page.changes[-1].position if len(page.changes) == _PAGE else max(page.placed, floor)
        return Piece(reached, heard(page.changes))

    async def _look(self) -> None:
        """Looks for changes until nobody listens."""
        while self._listeners and not self._closed:
            try:
                busy = await self._look_once()
            except StoreUnavailable as error:
                _log.warning("changes.waiting detail=%s", error)
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            except Exception:  # noqa: BLE001 - listeners wait, and none misses anything, while somebody looks into this
                _log.exception("changes.failed")
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            if not busy:
                await asyncio.sleep(_TICK_SECONDS)
        self._looking, self._floor = None, None
        self._recent.clear()

    async def _look_once(self) -> bool:
        await self._stream.place_changes(limit=_PAGE)
        if self._floor is None:
            self._floor = self._head = (await self._stream.page_after(0, limit=0)).placed
            self._tell()
            return False
        page = await self._stream.page_after(self._head, limit=_PAGE)
        if page.changes:
            news = heard(page.changes)
            if gone := {each.customer_id for each in news if each.erased}:
                # Whoever begins further back hears no more of them than the database says.
                self._recent = [each for each in self._recent if each.customer_id not in gone]
            self._recent.extend(news)
            self._head = self._recent[-1].position
            excess = len(self._recent) - self._most_kept
            if excess > 0:
                self._floor = self._recent[excess - 1].position
                del self._recent[:excess]
            self._tell()
        return len(page.changes) == _PAGE

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def heard(changes: Iterable[ChangeAnnouncement]) -> list[Heard]:
    """Changes as listeners get them."""
    return [
        Heard(each.position, each.customer_id, each.sides, each.message().encoded().decode(), each.erased)
        for each in changes
    ]


def _time() -> float:
    return asyncio.get_running_loop().time()
