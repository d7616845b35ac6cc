"""What the suites of access share: the application behind a door, keys to it, and the clock of who is remembered."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, running

from segment_api.app import Door
from segment_api.authenticating import Authenticator, Limits
from segment_api.tokens import TokenReader
from segmentation.access import Actor, ActorKind, NewKey, Scope, digest_of, write_key
from segmentation.storage.keys import PostgresKeys

SOMEBODY: Final = Actor(ActorKind.COMMAND, "tests", "tests")
NOW: Final = datetime(2026, 11, 22, 8, tzinfo=UTC)


@dataclass
class Watch:
    """Time that passes by hand, for both clocks of the door."""

    passed: float = 1_000.0

    def monotonic(self) -> float:
        return self.passed

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.passed - 1_000.0)


@dataclass
class Closed:
    """The application, closed to strangers."""

    api: Api
    keys: PostgresKeys
    watch: Watch
    authenticator: Authenticator
    said: list[dict[str, Any]] = field(default_factory=list)

    async def key(self, *scopes: Scope, **more: Any) -> str:
        """A new key."""
        return await new_key(self.keys, *scopes, **more)

    async def status(self, credential: str | None, path: str = "/tiers", **request: Any) -> int:
        answer = await self.api.client.request(
            request.pop("method", "GET"), path, headers=bearer(credential), **request
        )
        return answer.status_code


async def new_key(keys: PostgresKeys, *scopes: Scope, **more: Any) -> str:
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    new = NewKey(key_id, more.pop("name", "tests"), scopes, digest_of(secret), **more)
    await keys.create(new, by=SOMEBODY, reason=None)
    return write_key(key_id, secret)


def authenticator_of(
    keys: PostgresKeys, watch: Watch, *, tokens: TokenReader | None = None, limits: Limits | None = None
) -> Authenticator:
    """Who is let in, by a clock that a test moves."""
    return Authenticator(keys=keys, tokens=tokens, now=watch.now, monotonic=watch.monotonic, limits=limits or Limits())


def bearer(credential: str | None) -> dict[str, str]:
    return {} if credential is None else {"Authorization": f"Bearer {credential}"}


@contextlib.asynccontextmanager
async def closed(
    engine: AsyncEngine,
    *,
    tokens: TokenReader | None = None,
    limits: Limits | None = None,
    most_at_once: int = 100,
    docs_open: bool = False,
    **more: Any,
) -> AsyncIterator[Closed]:
    """The application over the engine's database, emptied, with keys that are asked for."""
    watch, keys, said = Watch(), PostgresKeys(engine), list[dict[str, Any]]()
    authenticator = authenticator_of(keys, watch, tokens=tokens, limits=limits)

    def say(event: str, **fields: Any) -> None:
        said.append({"event": event} | fields)

    door = Door(authenticator, docs_open=docs_open, most_at_once=most_at_once, log=say)
    async with running(engine, door=door, **more) as api:
        yield Closed(api, keys, watch, authenticator, said)
