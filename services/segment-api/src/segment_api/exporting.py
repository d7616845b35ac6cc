"""Everybody, as a stream: in constant memory, of one moment, never cut short in silence.

Laws: nothing is sent before the first customers have been found, so a refusal is an ordinary one; what comes to its end
says so and how many there were; what does not, says that, and breaks the connection off. A client that goes away, or
stops reading, frees its connection to the database; so does one that takes too long, or whose key or token counts no
more. There are only so many at once.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Final

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from segment_api.problems import ProblemAnswer
from segment_api.rendering import CsvExport, NdjsonExport
from segmentation.errors import StoreUnavailable
from segmentation.listing import CustomerPage

_RETRY_SECONDS: Final = "15"


class Slots:
    """How many exports there may be at once, in this process."""

    def __init__(self, at_once: int = 2, *, stalled_seconds: float = 10.0, longest_seconds: float = 900.0) -> None:
        """A client that takes nothing for `stalled_seconds` is given up before the database gives us up."""
        self.at_once = at_once
        self.taken = 0
        self.stalled_seconds = stalled_seconds
        self.longest_seconds = longest_seconds

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Takes one for the length of the block, or refuses."""
        if self.taken >= self.at_once:
            raise ProblemAnswer(
                429,
                f"{self.at_once} exports are under way here, which is all there may be at once; try again when one has "
                "ended, or ask for pages of JSON instead.",
                headers={"Retry-After": _RETRY_SECONDS},
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Export(Response):
    """An answer that is read from the database while it is sent."""

    def __init__(
        self,
        pages: AsyncGenerator[CustomerPage, None],
        form: NdjsonExport | CsvExport,
        language: str,
        slots: Slots,
        headers: Mapping[str, str],
    ) -> None:
        self.status_code = 200
        self.background = None
        self._pages, self._form, self._language, self._slots = pages, form, language, slots
        self.init_headers({**headers, "Content-Type": form.media_type})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        async with contextlib.aclosing(self._pages) as pages:
            with self._slots.one():
                page = await anext(pages)
                as_of, customers = page.as_of, 0
                name = f"customers-{as_of or 'none'}.{self._form.suffix}"
                self.headers["Content-Disposition"] = f'attachment; filename="{name}"'
                start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                await send(start)
                try:
                    await self._send(send, self._form.head())
                    until = time.monotonic() + self._slots.longest_seconds
                    async for each in _with_first(page, pages):
                        if await request.is_disconnected():
                            return
                        if time.monotonic() > until:
                            limit = f"{self._slots.longest_seconds:.0f} seconds"
                            detail = f"it took more than {limit}, as long as one moment is kept; narrow it by filters"
                            await self._send(send, self._form.broken(as_of, customers, detail))
                            return
                        if not await scope["still_may"]():
                            detail = "the key or token was revoked or has expired; this is not everybody"
                            await self._send(send, self._form.broken(as_of, customers, detail))
                            return
                        await self._send(send, self._form.rows(each.answers, self._language))
                        customers += len(each.answers)
                except TimeoutError:
                    return  # the client takes nothing any more
                except StoreUnavailable:
                    detail = "the database is out of reach; this is not everybody: ask again"
                    with contextlib.suppress(TimeoutError):
                        await self._send(send, self._form.broken(as_of, customers, detail))
                    return
                await self._send(send, self._form.tail(as_of, customers))
                # Only now is the body complete: every return above leaves it to the server to break the connection off.
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, body: bytes) -> None:
        if body:
            async with asyncio.timeout(self._slots.stalled_seconds):
                await send({"type": "http.response.body", "body": body, "more_body": True})


async def _with_first(first: CustomerPage, others: AsyncIterator[CustomerPage]) -> AsyncIterator[CustomerPage]:
    yield first
    async for each in others:
        yield each
