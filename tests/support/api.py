"""What the suites of the HTTP interface share: the application over a real database, and a check of JSON by its schema.

Laws: the application is the product's own, asked through its own ASGI interface; its clock moves only when a test moves
it; a keyword of a schema that the check does not know is a failure, so that nothing passes unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import as_message
from tests.support.histories import NOW
from tests.support.ledgers import DEFAULT_POLICY, PostgresStore, Worker, house_of, in_postgres, settle
from tests.support.oracle import Message, Oracle, Setting

from segment_api.app import Door, create_app
from segment_api.change_hub import ChangeHub
from segment_api.context import Context
from segmentation.storage.audit import PostgresAudit
from segmentation.storage.directory import PostgresDirectory
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.erasing import PostgresPrivacy
from segmentation.storage.feeds import PostgresFeeds
from segmentation.storage.foundation import open_house
from segmentation.storage.ledger import PostgresLedger
from segmentation.storage.models import PostgresModels
from segmentation.storage.overriding import PostgresOverrides
from segmentation.storage.policies import PostgresPolicies
from segmentation.storage.reader import PostgresReader
from segmentation.storage.webhooks import PostgresWebhooks
from segmentation.webhooks import WebhookRules

JSON_TYPE: Final = "application/json"
PROBLEM_TYPE: Final = "application/problem+json"


# --- the running application ----------------------------------------------------------------------------------------


@dataclass
class Clock:
    """The machine's clock, moved by hand."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


@dataclass
class Api:
    """The application, with the worker that feeds its database and the oracle that reads the same messages."""

    client: httpx.AsyncClient
    store: PostgresStore
    clock: Clock
    oracle: Oracle
    worker: Worker

    async def feed(self, *events: dict[str, Any] | Message) -> None:
        """Records events as the worker does, in one batch."""
        messages = [event if isinstance(event, Message) else as_message(event) for event in events]
        for message in messages:
            self.oracle.read(message, now=self.clock.now)
        await self.worker.read(messages, now=self.clock.now)

    async def settle(self) -> None:
        """Lets the keeper come to rest."""
        await settle(self.store, now=self.clock.now)

    async def fed(self, *events: dict[str, Any] | Message) -> None:
        """Records events and lets the keeper come to rest."""
        await self.feed(*events)
        await self.settle()

    @property
    def as_of(self) -> date:
        as_of = self.oracle.as_of(self.clock.now)
        assert as_of is not None
        return as_of

    async def ask(self, path: str, *, status: int = 200, **request: Any) -> httpx.Response:
        """The answer to GET."""
        answer = await self.client.get(path, **request)
        assert answer.status_code == status, answer.text
        return answer

    async def read(self, path: str, **request: Any) -> Any:
        """The JSON of the answer to GET."""
        answer = await self.ask(path, **request)
        assert answer.headers["content-type"] == JSON_TYPE
        return answer.json()

    async def segment(self, customer_id: str = "C-1", **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.read(f"/customers/{customer_id}/segment", **request)
        return answer

    async def segments(self, *customer_ids: str, **request: Any) -> dict[str, Any]:
        answer = await self.client.post("/customers/segments", json={"customer_ids": customer_ids}, **request)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def context_of(engine: AsyncEngine, setting: Setting, now: Callable[[], datetime]) -> Context:
    """What the application answers from, over whatever the engine's database holds."""
    house = house_of(setting)
    ledger = PostgresLedger(engine, house)
    return Context(
        reader=PostgresReader(engine, house),
        quarantine=ledger,
        overrides=PostgresOverrides(engine, house),
        house=house,
        now=now,
        policies=PostgresPolicies(engine, house),
        models=PostgresModels(engine, house),
        audit=PostgresAudit(engine),
        directory=PostgresDirectory(engine, house),
        privacy=PostgresPrivacy(engine, house),
        intake=ledger,
        changes=ChangeHub(PostgresFeeds(engine)),
        webhooks=PostgresWebhooks(engine),
        webhook_rules=WebhookRules(allow_http=False, allow_private=False),
    )


def client_of(
    engine: AsyncEngine, setting: Setting, now: Callable[[], datetime], door: Door | None = None
) -> httpx.AsyncClient:
    """The application over whatever the engine's database holds."""
    app = create_app(context_of(engine, setting, now), door)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://tierline"
    )


@contextlib.asynccontextmanager
async def running(
    engine: AsyncEngine,
    *,
    policy: str = DEFAULT_POLICY,
    now: datetime = NOW,
    clock: str = "system",
    door: Door | None = None,
    **setting: Any,
) -> AsyncIterator[Api]:
    """The application over the engine's database, which is emptied first."""
    chosen = Setting(clock=clock, **setting)
    store = await in_postgres(engine, chosen, policy)
    hand = Clock(now)
    async with client_of(engine, chosen, hand, door) as client:
        yield Api(client, store, hand, Oracle(chosen), Worker(store))


@contextlib.asynccontextmanager
async def without_policy(engine: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    """The application over a migrated database that no worker has ever touched."""
    async with client_of(engine, Setting(clock="system"), Clock()) as client:
        await in_postgres(engine, Setting(clock="system"))
        async with transaction(engine) as connection:
            await connection.execute(text("TRUNCATE policies, house CASCADE"))
        await open_house(engine, house_of(Setting(clock="system")))
        yield client


class Cable:
    """The wire between the application and its database, for cutting."""

    def __init__(self, database_url: str) -> None:
        self._to = urlsplit(database_url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    async def plug(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        user = f"{self._to.username}:{self._to.password}"
        return f"postgresql://{user}@127.0.0.1:{self._port}{self._to.path}"

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer))

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while block := await reader.read(65_536):
                writer.write(block)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def cable_to(database_url: str) -> AsyncIterator[tuple[Cable, AsyncEngine]]:
    """A cable, plugged in, and an engine at its near end."""
    cable = Cable(database_url)
    await cable.plug()
    engine = create_engine(cable.url, application_name="tests", pool_size=4)
    yield cable, engine
    await engine.dispose()
    await cable.cut()


# --- JSON against its schema ----------------------------------------------------------------------------------------

_SAYS_NOTHING: Final = frozenset(("title", "description", "default", "example", "examples"))
_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
_FORMATS: Final = {
    "date": r"\d{4}-\d\d-\d\d",
    "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
}


def misfits(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], at: str = "$") -> Iterator[str]:
    """What in the value is not as the schema says; a member that the schema does not name is a misfit too."""
    if "$ref" in schema:
        target: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from misfits(value, target, document, at)
    for keyword, says in schema.items():
        if keyword in _SAYS_NOTHING or keyword == "$ref":
            continue
        if keyword not in _KEYWORDS:
            yield f"{at}: nobody checks the keyword {keyword}"
            continue
        yield from _KEYWORDS[keyword](value, says, schema, document, at)


def _type(value: Any, says: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    fits = isinstance(value, _TYPES[says]) and (says == "boolean" or not isinstance(value, bool))
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        yield f"{at}: {value!r} is no {says}"
    if says == "object" and isinstance(value, dict) and "additionalProperties" not in schema:
        yield from (f"{at}.{name}: not in the document" for name in value if name not in schema.get("properties", {}))


def _any_of(value: Any, says: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    if all(any(misfits(value, choice, document, at)) for choice in says):
        yield f"{at}: {value!r} is none of {len(says)} choices"


def _properties(value: Any, says: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name in says:
            if name in value:
                yield from misfits(value[name], says[name], document, f"{at}.{name}")


def _additional(value: Any, says: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    if isinstance(value, dict) and isinstance(says, dict):
        for name in value:
            if name not in schema.get("properties", {}):
                yield from misfits(value[name], says, document, f"{at}.{name}")


def _required(value: Any, says: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{at}.{name}: missing" for name in says if name not in value)


def _items(value: Any, says: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    if isinstance(value, list):
        for number, element in enumerate(value):
            yield from misfits(element, says, document, f"{at}[{number}]")


def _enum(value: Any, says: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    if value not in says:
        yield f"{at}: {value!r} is none of {says}"


def _const(value: Any, says: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    yield from _enum(value, [says], schema, document, at)


def _format(value: Any, says: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    if isinstance(value, str) and not re.fullmatch(_FORMATS[says], value, re.ASCII):
        yield f"{at}: {value!r} is no {says}"


def _pattern(value: Any, says: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    if isinstance(value, str) and not re.search(says, value):
        yield f"{at}: {value!r} is not of the form {says}"


def _bound(value: Any, fits: bool, says: Any, at: str) -> Iterator[str]:
    if not fits:
        yield f"{at}: {value!r} is beyond {says}"


_KEYWORDS: Final[Mapping[str, Any]] = {
    "type": _type,
    "anyOf": _any_of,
    "properties": _properties,
    "additionalProperties": _additional,
    "required": _required,
    "items": _items,
    "enum": _enum,
    "const": _const,
    "format": _format,
    "pattern": _pattern,
    "minimum": lambda value, says, _, __, at: _bound(value, not _is_number(value) or value >= says, says, at),
    "maximum": lambda value, says, _, __, at: _bound(value, not _is_number(value) or value <= says, says, at),
    "minLength": lambda value, says, _, __, at: _bound(
        value, not isinstance(value, str) or len(value) >= says, says, at
    ),
    "maxLength": lambda value, says, _, __, at: _bound(
        value, not isinstance(value, str) or len(value) <= says, says, at
    ),
    "minItems": lambda value, says, _, __, at: _bound(
        value, not isinstance(value, list) or len(value) >= says, says, at
    ),
    "maxItems": lambda value, says, _, __, at: _bound(
        value, not isinstance(value, list) or len(value) <= says, says, at
    ),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def everything_in(value: Any) -> Iterator[Any]:
    """Every value inside a JSON value, itself first."""
    yield value
    inside: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inside:
        yield from everything_in(each)
