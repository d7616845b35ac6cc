"""What every answer carries, and what the log says of it.

Laws: each request has an id, in the answer, in problems and in the log; a line of the log names the route, never the
path, a key or a payload; answers stay out of caches and frames unless a route says otherwise.
"""

import itertools
import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SANE_ID = re.compile(rb"[A-Za-z0-9._~:+/=-]{1,128}")
_MASK: Final = 2**64 - 1
_STRIDE: Final = 0x9E3779B97F4A7C15
"""Odd, so that no two of 2^64 numbers lead to one id."""
_numbers = itertools.count(secrets.randbits(64))
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of whatever answer says nothing else. `no-store`: most answers are about somebody."""

OVER_TLS: Final = "max-age=31536000"


class Observe:
    """ASGI middleware, the outermost: request id, security headers, a line of the log."""

    def __init__(self, app: ASGIApp, log: Callable[..., None] | None) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        scope["request_id"] = request_id = request_id_of(scope)
        status, sent = 500, 0

        async def completing_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                complete_headers(scope, MutableHeaders(scope=message))
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, completing_send)
        finally:
            if self._log is not None:
                route = getattr(scope.get("route"), "path", None) or "other"
                seconds = time.perf_counter() - began
                principal: Any = scope.get("principal")
                client = scope.get("client")
                self._log(
                    "request.answered",
                    request_id=request_id,
                    method=scope["method"],
                    route=route,
                    status=status,
                    milliseconds=round(seconds * 1_000, 3),
                    bytes=sent,
                    by=f"{principal.kind} {principal.id}".strip() if principal is not None else None,
                    client=client[0] if client else None,
                )


def complete_headers(scope: Scope, headers: MutableHeaders) -> None:
    """Adds what every answer carries, where it does not say otherwise."""
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    if "request_id" in scope:
        headers["X-Request-ID"] = scope["request_id"]
    if scope.get("scheme") == "https":
        headers.setdefault("Strict-Transport-Security", OVER_TLS)


def request_id_of(scope: Scope) -> str:
    """The caller's own, if it is a sane one."""
    return own_request_id(scope["headers"]) or new_request_id()


def own_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The one that a request brings; None where it brings none that may be passed on."""
    for name, value in headers:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return None


def new_request_id() -> str:
    """Unlike all others of this process, and by chance of any other."""
    return f"{next(_numbers) * _STRIDE & _MASK:016x}"
