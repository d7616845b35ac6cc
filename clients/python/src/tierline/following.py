"""Following changes: server-sent events read line by line, and where to go on after a cut. No wire here either.

Law: the position moves only over what was handed out or told to be of no interest, so that whoever begins at it again
misses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import httpx
import msgspec

from tierline.answers import Change
from tierline.core import Retries, Send, failure_of, filters_of, may_pass
from tierline.errors import ChangesDropped, Problem, UnexpectedAnswer

_GONE: Final = 410
_PATIENT: Final = Retries(tries=2**31, first_seconds=0.5, longest_seconds=30.0)
SILENCE_SECONDS: Final = 45.0
"""The service gives a sign of life every 15 s; after three missed ones the connection counts as cut."""


class Feed:
    """Where somebody is in the stream of changes."""

    def __init__(
        self,
        after: int | None,
        filters: Mapping[str, str | Iterable[str] | None],
        tries: int | None,
        forget: Callable[[str], None],
    ) -> None:
        self.position = after
        """Begin with `after` this to go on from here."""
        self._filters = filters_of(filters)
        self._tries = tries
        self._forget = forget
        self._failed = 0
        self._rest = b""
        self._event = ""
        self._id: int | None = None
        self._data: list[str] = []

    def request(self) -> Send:
        """How to go on from here."""
        self._rest, self._event, self._id, self._data = b"", "", None, []
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.position is not None:
            headers["Last-Event-ID"] = str(self.position)
        return Send("GET", "/changes", self._filters, headers)

    def refused(self, got: httpx.Response | httpx.TransportError) -> float:
        """Seconds to wait before the next try.

        Raises:
            TierlineError: there is no sense in another one.
        """
        failure = failure_of(got)
        if isinstance(failure, httpx.Response):
            return 0.0
        if isinstance(failure, Problem) and failure.status == _GONE:
            raise ChangesDropped(failure.detail)
        if not may_pass(failure) or (self._tries is not None and self._failed + 1 >= self._tries):
            raise failure
        return self.cut(getattr(failure, "retry_after", None))

    def cut(self, asked: float | None = None) -> float:
        """Seconds to wait after a connection ended."""
        self._failed += 1
        return _PATIENT.wait(self._failed, None if asked is None else min(asked, _PATIENT.longest_seconds)) or 0.0

    def take(self, received: bytes) -> Iterator[Change | None]:
        """The changes that are complete with these bytes; None for a position without one.

        Raises:
            ChangesDropped: the service ended the stream, because what comes next is gone.
        """
        self._failed = 0
        # Lines end with LF or CRLF only: U+2028 and the like may stand inside a line of JSON.
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r").decode()
            if text:
                self._line(text)
                continue
            change, moved = self._dispatch()
            if change is not None or moved:
                yield change

    def _line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and value.isascii() and value.isdigit():
            self._id = int(value)

    def _dispatch(self) -> tuple[Change | None, bool]:
        """The change that an empty line completes, if it is one, and whether the position is told."""
        event, told, data = self._event, self._id, "\n".join(self._data)
        self._event, self._id, self._data = "", None, []
        change = None
        if event in ("change", "erased") and data:
            change = _change(data)
            if change.erased:
                self._forget(change.customer_id)
        elif event == "end" and data and json.loads(data).get("reason") == "dropped":
            raise ChangesDropped(str(json.loads(data).get("detail") or "changes were dropped for their age"))
        if told is not None:
            self.position = told
        return change, told is not None


def _change(data: str) -> Change:
    try:
        return msgspec.json.decode(data, type=Change)
    except msgspec.DecodeError as error:
        raise UnexpectedAnswer(f"a change cannot be read: {error}") from None
