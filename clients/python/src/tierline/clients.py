"""The two clients: the same calls, carried out at once or awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator, Mapping
from datetime import date, datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx

from tierline import answers, core
from tierline.core import Conversations, Retries, Send, Talk
from tierline.following import SILENCE_SECONDS, Feed

T = TypeVar("T")

Filter = str | Iterable[str] | None
_RETRIES: Final = Retries()
_TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
_STREAM_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0, read=SILENCE_SECONDS)


class _Client:
    """What both are made of.

    Args:
        url: Where the service listens, such as http://127.0.0.1:8080.
        key: An API key or a JWT; without one that of TIERLINE_API_KEY, if there is one. It is never logged.
        language: Of names and reasons: `en` or `zh`.
        timeout: Of a single try.
        retries: How often and how patiently calls are repeated that do no harm twice.
        remember: So many answers of `segment` are kept, to be asked about by their tags only.
        stale_if_away: Whether `segment` answers from memory, marked `stale`, while the service is out of reach.
        transport: For tests, and for proxies of one's own.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        language: str | None = None,
        timeout: float | httpx.Timeout = _TIMEOUT,
        retries: Retries = _RETRIES,
        remember: int = 10_000,
        stale_if_away: bool = False,
        transport: Any = None,  # noqa: ANN401 - httpx has a type of its own for each client
    ) -> None:
        self._url = url.rstrip("/")
        self._talk = Conversations(language=language, retries=retries, remember=remember, stale_if_away=stale_if_away)
        self._options: dict[str, Any] = {
            "base_url": self._url,
            "auth": core.bearer(key),
            "timeout": timeout,
            "transport": transport,
            # The key goes to the service and nowhere that it might point to.
            "follow_redirects": False,
            "headers": {"User-Agent": "tierline-python/0.1.0"},
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r})"


def _options(step: Send) -> dict[str, Any]:
    return {
        "method": step.method,
        "url": step.path,
        "params": list(step.params) or None,  # an empty list would take away what the path has
        "headers": dict(step.headers),
        "content": step.content,
    }


class Tierline(_Client):
    """Tierline, for code that waits. May be shared by threads."""

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401 - see _Client
        super().__init__(url, **options)
        self._http = httpx.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections."""
        self._http.close()

    def _run(self, talk: Talk[T]) -> T:
        try:
            step = next(talk)
            while True:
                got: httpx.Response | httpx.TransportError | None = None
                if isinstance(step, Send):
                    try:
                        got = self._http.request(**_options(step))
                    except httpx.TransportError as error:
                        got = error
                else:
                    time.sleep(step.seconds)
                step = talk.send(got)
        except StopIteration as done:
            result: T = done.value
            return result

    def segment(self, customer_id: str, *, as_of: date | None = None) -> answers.Segment:
        """Where a customer stands; with `as_of`, where it stood at the end of an earlier day."""
        return self._run(self._talk.segment(customer_id, as_of))

    def segments(self, customer_ids: Iterable[str]) -> answers.Segments:
        """Where many customers stand, 10,000 in a call."""
        return self._run(self._talk.segments(customer_ids))

    def metrics(self, customer_id: str) -> answers.Metrics:
        """A customer's rolling figures."""
        return self._run(self._talk.metrics(customer_id))

    def explanation(self, customer_id: str) -> answers.Explanation:
        """Why a customer stands where it stands."""
        return self._run(self._talk.explanation(customer_id))

    def history(self, customer_id: str) -> Iterator[answers.HistoryEntry]:
        """What became of a customer, newest first, page after page."""
        path: str | None = core.history_path(customer_id)
        while path is not None:
            page = self._run(self._talk.history_page(path))
            yield from page.history
            path = page.next

    def customers(self, **filters: Filter) -> Iterator[answers.Segment]:
        """Customers by what they are, page after page: `customers(tier="A", region=["north", "south"])`."""
        path: str | None = "/customers"
        params = core.filters_of({"limit": "1000", **filters})
        while path is not None:
            page = self._run(self._talk.customers_page(path, params))
            yield from page.customers
            path, params = page.next, []

    def tiers(self) -> answers.Tiers:
        """Cut-offs, counts and shares of the tiers."""
        return self._run(self._talk.tiers())

    def priorities(
        self,
        orders: Iterable[answers.Order | Mapping[str, Any]],
        *,
        at: datetime | None = None,
        scale: str | None = None,
    ) -> answers.Ranking:
        """Which of up to 10,000 orders goes first, and why. Times need an offset."""
        return self._run(self._talk.priorities(orders, at, scale))

    def send_events(
        self, events: Iterable[Mapping[str, Any]], *, validate_only: bool = False
    ) -> list[answers.EventOutcome]:
        """Events in, an outcome for each. Sending them again does no harm: each is known by its `event_id`."""
        return self._run(self._talk.send_events(events, validate_only=validate_only))

    def erase(self, customer_id: str, *, author: str | None = None, reason: str | None = None) -> answers.Erasure:
        """Erases a customer and everything derived from it, for good."""
        return self._run(self._talk.erase(customer_id, author, reason))

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        idempotent: bool | None = None,
    ) -> Any:  # noqa: ANN401 - any JSON value
        """Any other call, as JSON. POST is not repeated unless it is said to be idempotent."""
        return self._run(self._talk.request(method, path, params, body, idempotent=idempotent))

    def changes(self, after: int | None = None, *, tries: int | None = None, **filters: Filter) -> Changes:
        """Changes as they happen, without a hole: a cut connection is made anew from where it was.

        Args:
            after: Go on from this position; 0 for all that is kept, None for what comes from now on.
            tries: Give up after so many in a row that fail; None: never.
            filters: tier, segment, service_level, customer_id.
        """
        return Changes(self._http, Feed(after, filters, tries, self._talk.memory.forget))


class Changes:
    """Changes, one after the other. It begins where `with` is entered, or else where the first one is asked for."""

    def __init__(self, http: httpx.Client, feed: Feed) -> None:
        self._feed = feed
        self._changes = self._follow(http)
        self._ahead: answers.Change | None = None

    @property
    def position(self) -> int | None:
        """To go on after this: `changes(after=position)`."""
        return self._feed.position if self._ahead is None else self._ahead.sequence - 1

    def __iter__(self) -> Changes:
        return self

    def __next__(self) -> answers.Change:
        ahead, self._ahead = self._ahead, None
        while ahead is None:
            ahead = next(self._changes)
        return ahead

    def close(self) -> None:
        """Ends the connection."""
        self._changes.close()

    def __enter__(self) -> Self:
        """Follows from here on: what happens after this line is told."""
        self._ahead = next(self._changes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _follow(self, http: httpx.Client) -> Generator[answers.Change | None, None, None]:
        feed = self._feed
        while True:
            wait = 0.0
            try:
                with http.stream(**_options(feed.request()), timeout=_STREAM_TIMEOUT) as response:
                    if response.is_success:
                        for received in response.iter_bytes():
                            yield from feed.take(received)
                        wait = feed.cut()
                    else:
                        response.read()
                        wait = feed.refused(response)
            except httpx.TransportError as error:
                wait = feed.refused(error)
            time.sleep(wait)


class AsyncTierline(_Client):
    """Tierline, for code that awaits."""

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401 - see _Client
        super().__init__(url, **options)
        self._http = httpx.AsyncClient(**self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends all connections."""
        await self._http.aclose()

    async def _run(self, talk: Talk[T]) -> T:
        try:
            step = next(talk)
            while True:
                got: httpx.Response | httpx.TransportError | None = None
                if isinstance(step, Send):
                    try:
                        got = await self._http.request(**_options(step))
                    except httpx.TransportError as error:
                        got = error
                else:
                    await asyncio.sleep(step.seconds)
                step = talk.send(got)
        except StopIteration as done:
            result: T = done.value
            return result

    async def segment(self, customer_id: str, *, as_of: date | None = None) -> answers.Segment:
        """As `Tierline.segment`."""
        return await self._run(self._talk.segment(customer_id, as_of))

    async def segments(self, customer_ids: Iterable[str]) -> answers.Segments:
        """As `Tierline.segments`."""
        return await self._run(self._talk.segments(customer_ids))

    async def metrics(self, customer_id: str) -> answers.Metrics:
        """As `Tierline.metrics`."""
        return await self._run(self._talk.metrics(customer_id))

    async def explanation(self, customer_id: str) -> answers.Explanation:
        """As `Tierline.explanation`."""
        return await self._run(self._talk.explanation(customer_id))

    async def history(self, customer_id: str) -> AsyncIterator[answers.HistoryEntry]:
        """As `Tierline.history`."""
        path: str | None = core.history_path(customer_id)
        while path is not None:
            page = await self._run(self._talk.history_page(path))
            for entry in page.history:
                yield entry
            path = page.next

    async def customers(self, **filters: Filter) -> AsyncIterator[answers.Segment]:
        """As `Tierline.customers`."""
        path: str | None = "/customers"
        params = core.filters_of({"limit": "1000", **filters})
        while path is not None:
            page = await self._run(self._talk.customers_page(path, params))
            for customer in page.customers:
                yield customer
            path, params = page.next, []

    async def tiers(self) -> answers.Tiers:
        """As `Tierline.tiers`."""
        return await self._run(self._talk.tiers())

    async def priorities(
        self,
        orders: Iterable[answers.Order | Mapping[str, Any]],
        *,
        at: datetime | None = None,
        scale: str | None = None,
    ) -> answers.Ranking:
        """As `Tierline.priorities`."""
        return await self._run(self._talk.priorities(orders, at, scale))

    async def send_events(
        self, events: Iterable[Mapping[str, Any]], *, validate_only: bool = False
    ) -> list[answers.EventOutcome]:
        """As `Tierline.send_events`."""
        return await self._run(self._talk.send_events(events, validate_only=validate_only))

    async def erase(self, customer_id: str, *, author: str | None = None, reason: str | None = None) -> answers.Erasure:
        """As `Tierline.erase`."""
        return await self._run(self._talk.erase(customer_id, author, reason))

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        idempotent: bool | None = None,
    ) -> Any:  # noqa: ANN401 - any JSON value
        """As `Tierline.request`."""
        return await self._run(self._talk.request(method, path, params, body, idempotent=idempotent))

    def changes(self, after: int | None = None, *, tries: int | None = None, **filters: Filter) -> AsyncChanges:
        """As `Tierline.changes`."""
        return AsyncChanges(self._http, Feed(after, filters, tries, self._talk.memory.forget))


class AsyncChanges:
    """Changes, one after the other. It begins where `with` is entered, or else where the first one is asked for."""

    def __init__(self, http: httpx.AsyncClient, feed: Feed) -> None:
        self._feed = feed
        self._changes = self._follow(http)
        self._ahead: answers.Change | None = None

    @property
    def position(self) -> int | None:
        """To go on after this: `changes(after=position)`."""
        return self._feed.position if self._ahead is None else self._ahead.sequence - 1

    def __aiter__(self) -> AsyncChanges:
        return self

    async def __anext__(self) -> answers.Change:
        ahead, self._ahead = self._ahead, None
        while ahead is None:
            ahead = await anext(self._changes)
        return ahead

    async def aclose(self) -> None:
        """Ends the connection."""
        await self._changes.aclose()

    async def __aenter__(self) -> Self:
        """Follows from here on: what happens after this line is told."""
        self._ahead = await anext(self._changes)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _follow(self, http: httpx.AsyncClient) -> AsyncGenerator[answers.Change | None, None]:
        feed = self._feed
        while True:
            wait = 0.0
            try:
                async with http.stream(**_options(feed.request()), timeout=_STREAM_TIMEOUT) as response:
                    if response.is_success:
                        async for received in response.aiter_bytes():
                            for change in feed.take(received):
                                yield change
                        wait = feed.cut()
                    else:
                        await response.aread()
                        wait = feed.refused(response)
            except httpx.TransportError as error:
                wait = feed.refused(error)
            await asyncio.sleep(wait)
