"""The door: who is let in, and what for.

Laws: whatever is not named open in `scopes` is answered only to somebody who proved who they are, whether there is
such a path or not; a route needs the scope that the table names, and a route that the table does not name nobody may
use; who is let in is in `scope["principal"]`, for whoever answers ahead of the router too; an answer that lasts asks
`scope["still_may"]` as it goes on.
"""

from collections import Counter
from functools import partial
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from segment_api import problems
from segment_api.authenticating import Authenticator, Refusal, StillMay
from segment_api.problems import ProblemAnswer
from segment_api.scopes import NEEDED, Open, open_paths
from segmentation import access
from segmentation.access import EVERYONE, Actor, ActorKind, Principal
from segmentation.errors import StoreUnavailable

_DOCUMENTS_BELOW: Final = "/static-offline-docs/"


class Guard:
    """ASGI middleware: finds out who asks, before anything of the request is read."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, *, docs_open: bool, most_at_once: int) -> None:
        self._app = app
        self._authenticator = authenticator
        self._open = open_paths(docs_open=docs_open)
        self._docs_open = docs_open
        self._most_at_once = most_at_once
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        if self._authenticator.open or self._is_open(scope["path"]):
            scope["principal"] = EVERYONE if self._authenticator.open else None
            scope["still_may"] = _always
            await self._app(scope, receive, send)
            return
        try:
            client = scope.get("client") or ("unknown", 0)
            found = await self._authenticator.principal(scope["headers"], client[0])
        except StoreUnavailable as error:
            await problems.answer(Request(scope), problems.unavailable(error))(scope, receive, send)
            return
        if isinstance(found, Refusal):
            refused = ProblemAnswer(found.status, found.detail, headers=found.headers)
            await problems.answer(Request(scope), refused)(scope, receive, send)
            return
        scope["principal"] = found
        scope["still_may"] = partial(self._authenticator.still, found, scope["headers"], client[0])
        await self._let_in(found, scope, receive, send)

    async def _let_in(self, principal: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        caller = principal.kind + " " + principal.id
        if self._under_way[caller] >= self._most_at_once:
            many = f"{self._most_at_once} requests of this key are under way already; wait for one of them to end."
            refused = ProblemAnswer(429, many, headers={"Retry-After": "1"})
            await problems.answer(Request(scope), refused)(scope, receive, send)
            return
        self._under_way[caller] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]

    def _is_open(self, path: str) -> bool:
        return path in self._open or (self._docs_open and path.startswith(_DOCUMENTS_BELOW))


async def require_scope(request: Request) -> None:
    """Of every route: lets in who has the scope that the table names for it."""
    route = request.scope["route"]
    operation = f"{request.method} {route.path_format}"
    needs = NEEDED.get(operation)
    if isinstance(needs, Open):
        return
    principal: Principal | None = request.scope.get("principal")
    if needs is None:
        raise ProblemAnswer(403, f"No scope is declared for {operation}, so nobody may use it; it is a fault of ours.")
    if principal is None or not principal.may(needs):
        challenge = f'Bearer realm="tierline", error="insufficient_scope", scope="{needs}"'
        detail = f"The scope {needs} is needed here and is not among those of this key."
        raise ProblemAnswer(403, detail, headers={"WWW-Authenticate": challenge})


async def _always() -> bool:
    return True


def _still_may(request: Request) -> StillMay:
    still_may: StillMay = request.scope["still_may"]
    return still_may


def _actor(request: Request) -> Actor:
    principal: Principal | None = request.scope.get("principal")
    if principal is None:
        return access.ANYONE
    return principal.actor(request.scope.get("request_id"))


def author_or(actor: Actor, author: str | None) -> str | None:
    """The author that a request names, else who it comes from, if that is known."""
    return author if author is not None or actor.kind is ActorKind.ANYONE else actor.name or actor.id


InActor = Annotated[Actor, Depends(_actor)]
InStillMay = Annotated[StillMay, Depends(_still_may)]
