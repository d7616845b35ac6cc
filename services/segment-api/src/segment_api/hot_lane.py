"""The hot lane: `GET /customers/{customer_id}/segment` from memory, ahead of everything else.

It has two entrances: `HotLane` is an ASGI application around the other one; `protocol` makes the server's own protocol
look first whether a request is one that it can answer without being taken apart.

Laws: what is answered here is what the ordinary route behind its middleware would have answered, byte for byte; only
what is kept, for somebody who was let in a moment ago, is answered here, and everything else is handed on untouched:
misses, refusals, problems, queries, bodies, other methods. Nothing here waits. What a block of header lines says is
remembered by its very bytes, for callers whose requests are all alike; who that lets in is asked anew each time.
"""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from segment_api.authenticating import Authenticator
from segment_api.languages import choose_language
from segment_api.limits import LARGEST_HEADERS
from segment_api.lookups import Lookups
from segment_api.observing import OVER_TLS, new_request_id, own_request_id
from segment_api.replies import Reply
from segment_api.scopes import NEEDED
from segment_api.telemetry import AccessLog, HotFigures, Metrics
from segmentation import access
from segmentation.access import Principal
from segmentation.fields import CustomerId

ROUTE: Final = "/customers/{customer_id}/segment"
_BEFORE, _AFTER = ROUTE.split("{customer_id}")
_HAS_BODY: Final = frozenset({b"content-length", b"transfer-encoding"})
_OVER_TLS: Final = (b"strict-transport-security", OVER_TLS.encode())
_MOST_HEADS: Final = 1_024
_LONGEST_HEAD: Final = 4_096

_language = lru_cache(maxsize=256)(choose_language)


@dataclass(frozen=True, slots=True)
class Head:
    """What the headers of a request say, as far as they count here."""

    language: str
    if_none_match: str | None
    digest: bytes | None
    """Of the key or token that was shown."""
    request_id: str | None
    """The caller's own."""


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head | None:
    """None where the request is not for us to answer. Of a repeated header the first counts, as everywhere else."""
    accept_language = if_none_match = authorization = None
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"accept-language":
            accept_language = value if accept_language is None else accept_language
        elif name == b"if-none-match":
            if_none_match = value if if_none_match is None else if_none_match
        elif name == b"authorization":
            if authorization is not None:
                return None
            authorization = value
        elif name in _HAS_BODY:
            return None
    if size > LARGEST_HEADERS:
        return None
    return Head(
        _language(None if accept_language is None else accept_language.decode("latin-1")),
        None if if_none_match is None else if_none_match.decode("latin-1"),
        None if authorization is None else hashlib.sha256(authorization).digest(),
        own_request_id(headers),
    )


class HotLane:
    """An ASGI application around the other one."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        lookups: Lookups,
        metrics: Metrics,
        authenticator: Authenticator,
        log: AccessLog | None,
    ) -> None:
        self._app = app
        self._lookups = lookups
        self._authenticator = authenticator
        self._log = log
        self._figures = HotFigures(metrics, ROUTE)
        needs = NEEDED[f"GET {ROUTE}"]
        self._needs: access.Scope | None = needs if isinstance(needs, access.Scope) else None
        self._heads: dict[bytes, Head] = {}
        """Of requests whose header lines read exactly so."""
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_lines = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and not scope["query_string"]:
            path = scope["path"]
            if (
                path.endswith(_AFTER)
                and path.startswith(_BEFORE)
                and await self._answers(scope, path[len(_BEFORE) : -len(_AFTER)], send)
            ):
                return
        await self._app(scope, receive, send)

    async def _answers(self, scope: Scope, customer_id: str, send: Send) -> bool:
        """Answers, or does nothing and says so."""
        began = time.perf_counter()
        head = None if scope.get("root_path") else read_head(scope["headers"])
        found = None if head is None else self._find(customer_id, head)
        if head is None or found is None:
            return False
        principal, reply, unchanged = found
        request_id = head.request_id or new_request_id()
        headers = [
            *(reply.unchanged_headers if unchanged else reply.headers),
            (b"x-request-id", request_id.encode()),
        ]
        if scope.get("scheme") == "https":
            headers.append(_OVER_TLS)
        await send({"type": "http.response.start", "status": 304 if unchanged else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if unchanged else reply.body})
        client = scope.get("client")
        self._note(principal, reply, request_id, client[0] if client else None, began, unchanged=unchanged)
        return True

    def _find(self, customer_id: str, head: Head) -> tuple[Principal, Reply, bool] | None:
        """Who asks, the answer, and whether they have it already."""
        principal = self._authenticator.at_once(head.digest)
        if principal is None or self._needs is None or not principal.may(self._needs):
            return None
        # Whatever is no id is not kept.
        reply = self._lookups.hit(CustomerId(customer_id), head.language)
        if reply is None or not self._authenticator.admits(principal):
            return None
        return principal, reply, head.if_none_match is not None and reply.is_known(head.if_none_match)

    def _note(
        self, principal: Principal, reply: Reply, request_id: str, client: str | None, began: float, *, unchanged: bool
    ) -> None:
        seconds = time.perf_counter() - began
        self._figures.add(seconds, unchanged=unchanged)
        if self._log is not None:
            status, sent = (304, 0) if unchanged else (200, len(reply.body))
            self._log.answered("GET", ROUTE, request_id, status, seconds, sent, principal, client)

    # --- on the wire --------------------------------------------------------------------------------------------

    def remembered(self, lines: bytes) -> Head | None:
        """What header lines say, where they have been read before."""
        return self._heads.get(lines)

    def remember(self, lines: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Keeps what header lines say, for whoever was let in with them: nobody else fills our memory."""
        if len(lines) > _LONGEST_HEAD:
            return
        head = read_head(headers)
        if head is None or self._authenticator.at_once(head.digest) is None:
            return
        while len(self._heads) >= _MOST_HEADS:
            self._heads.pop(next(iter(self._heads)))
        self._heads[lines] = head

    def on_wire(
        self,
        customer_id: str,
        head: Head,
        *,
        default_headers: list[tuple[bytes, bytes]],
        client: str | None,
        over_tls: bool,
    ) -> bytes | None:
        """The whole answer as the server would write it; None where it is not for us to give."""
        began = time.perf_counter()
        found = self._find(customer_id, head)
        if found is None:
            return None
        principal, reply, unchanged = found
        if default_headers is not self._default_headers:  # once a second
            self._default_headers = default_headers
            self._default_lines = b"".join(b"%b: %b\r\n" % each for each in default_headers)
        request_id = head.request_id or new_request_id()
        written = b"%b%b%bx-request-id: %b\r\n%b\r\n%b" % (
            STATUS_LINE[304 if unchanged else 200],
            self._default_lines,
            reply.unchanged_lines if unchanged else reply.lines,
            request_id.encode(),
            b"%b: %b\r\n" % _OVER_TLS if over_tls else b"",
            b"" if unchanged else reply.body,
        )
        self._note(principal, reply, request_id, client, began, unchanged=unchanged)
        return written


class _Protocol(HttpToolsProtocol):
    """The server's protocol, with the hot lane ahead of its parser."""

    lane: ClassVar[HotLane]
    _START: Final = b"GET " + _BEFORE.encode()
    _END: Final = _AFTER.encode() + b" HTTP/1.1"

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401 - the server's own
        super().__init__(*args, **named)
        self._between = True
        """Whether the next byte begins a request."""
        self._answered_at = 0.0

    def data_received(self, data: bytes) -> None:
        if not (self._between and data.startswith(self._START)):
            super().data_received(data)
            return
        end = data.find(b"\r\n")
        lines = data[end:]
        head = self.lane.remembered(lines)
        if head is not None:
            if self._answers(data[:end], head):
                return
            super().data_received(data)
            return
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        # The parser has taken the whole of it, and nothing else.
        between: bool = self._between
        whole = between and lines.find(b"\r\n\r\n") == len(lines) - 4
        if whole and cycle is not None and cycle.keep_alive and self.scope["method"] == "GET":
            self.lane.remember(lines, self.headers)

    def _answers(self, line: bytes, head: Head) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        busy = self.pipeline or (cycle is not None and not cycle.response_complete)
        if busy or not line.endswith(self._END) or self.flow.write_paused or self.transport.is_closing():
            return False
        answer = self.lane.on_wire(
            line[len(self._START) : -len(self._END)].decode("latin-1"),
            head,
            default_headers=self.server_state.default_headers,
            client=self.client[0] if self.client else None,
            over_tls=self.scheme == "https",
        )
        if answer is None:
            return False
        self.transport.write(answer)
        self.server_state.total_requests += 1
        # The timer is left to run: it looks for itself when it was last needed.
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._let_live(self.timeout_keep_alive)
        return True

    def _let_live(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        idle = self.loop.time() - self._answered_at
        if idle < self.timeout_keep_alive:
            self._let_live(self.timeout_keep_alive - idle)
        else:
            super().timeout_keep_alive_handler()

    def on_message_begin(self) -> None:
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._between = True


def protocol(lane: HotLane) -> type[HttpToolsProtocol]:
    """The server's protocol with this lane ahead of it."""
    return type("HotProtocol", (_Protocol,), {"lane": lane})
