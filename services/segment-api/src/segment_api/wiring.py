"""Puts the API together: the only place that reads the clock and knows which store there is."""

import asyncio
import contextlib
import gc
import ipaddress
import signal
import socket
import ssl
import time
from datetime import UTC, datetime
from typing import Any

import uvicorn

from segment_api import telemetry
from segment_api.app import Door, create_app
from segment_api.authenticating import Authenticator, Limits
from segment_api.change_hub import ChangeHub
from segment_api.context import Context
from segment_api.exporting import Slots
from segment_api.settings import ApiSettings
from segment_api.tokens import TokenReader, TokenRules
from segmentation.access import Keys
from segmentation.errors import SettingInvalid
from segmentation.storage import foundation
from segmentation.storage.audit import PostgresAudit
from segmentation.storage.directory import PostgresDirectory
from segmentation.storage.engine import create_engine
from segmentation.storage.erasing import PostgresPrivacy
from segmentation.storage.feeds import PostgresFeeds
from segmentation.storage.keys import PostgresKeys
from segmentation.storage.ledger import PostgresLedger
from segmentation.storage.models import PostgresModels
from segmentation.storage.overriding import PostgresOverrides
from segmentation.storage.policies import PostgresPolicies
from segmentation.storage.reader import PostgresReader
from segmentation.storage.webhooks import PostgresWebhooks

_USES_EVERY_SECONDS = 60.0
"""Last uses of keys are written so often, and not with each request."""


class _Server(uvicorn.Server):
    """Lets those go who follow a stream, before it waits for answers to end."""

    def __init__(self, config: uvicorn.Config, changes: ChangeHub) -> None:
        super().__init__(config)
        self._changes = changes

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._changes.close()
        await super().shutdown(sockets)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the API's one look at the clock


async def serve(settings: ApiSettings) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are answered first."""
    tls = _tls(settings)
    tokens = _token_reader(settings)
    listener = _listen(settings)
    engine = create_engine(
        settings.database_url.get_secret_value(),
        application_name="segment-api",
        pool_size=settings.database_connections,
    )
    try:
        await foundation.open_house(engine, settings.house)
        ledger = PostgresLedger(engine, settings.house)
        context = Context(
            reader=PostgresReader(engine, settings.house),
            quarantine=ledger,
            overrides=PostgresOverrides(engine, settings.house),
            house=settings.house,
            now=_now,
            policies=PostgresPolicies(engine, settings.house),
            models=PostgresModels(engine, settings.house),
            audit=PostgresAudit(engine),
            directory=PostgresDirectory(engine, settings.house),
            privacy=PostgresPrivacy(engine, settings.house),
            intake=ledger,
            changes=ChangeHub(PostgresFeeds(engine)),
            webhooks=PostgresWebhooks(engine),
            webhook_rules=settings.webhook_rules,
            exports=Slots(settings.exports_at_once),
        )
        keys = PostgresKeys(engine)
        authenticator = Authenticator(
            keys=keys if "keys" in settings.ways else None,
            tokens=tokens,
            now=_now,
            monotonic=time.monotonic,
            limits=Limits(settings.rate_limit, settings.auth_failures_per_minute),
        )
        door = Door(
            authenticator,
            docs_open=settings.docs_open or authenticator.open,
            most_at_once=settings.concurrency_limit,
            log=telemetry.say if settings.access_log else None,
        )
        _say_who_may_ask(settings)
        server = _Server(
            uvicorn.Config(
                create_app(context, door),
                log_level="info",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=10,
                proxy_headers=settings.http_trusted_proxies is not None,
                forwarded_allow_ips=settings.http_trusted_proxies or "",
                **tls,
            ),
            context.changes,
        )
        _collect_less()
        # The server raises again what it was ended by, and would end the process before its last words.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        noting = asyncio.create_task(_note_uses(authenticator, keys))
        try:
            await server.serve(sockets=[listener])
        finally:
            noting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await noting
            await authenticator.note_uses(keys)
    finally:
        listener.close()
        await engine.dispose()


def _collect_less() -> None:
    """Lets the collector look at new objects alone, and less often.

    What there is by now stays for good, and is so much that looking through it holds everybody up for a tenth of a
    second; a bulk answer makes ten thousands of objects that all live as long as it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _note_uses(authenticator: Authenticator, keys: Keys) -> None:
    while True:
        await asyncio.sleep(_USES_EVERY_SECONDS)
        await authenticator.note_uses(keys)


def _token_reader(settings: ApiSettings) -> TokenReader | None:
    issuer, audience, keys_file = settings.jwt_issuer, settings.jwt_audience, settings.jwt_keys_file
    if issuer is None or audience is None or keys_file is None:
        return None
    rules = TokenRules(
        issuer,
        audience,
        tuple(settings.jwt_algorithms.split(",")),
        settings.jwt_scope_claim,
        settings.jwt_scope_prefix,
    )
    return TokenReader(rules, keys_file, complain=lambda why: telemetry.warn("jwt_keys.not_taken_over", detail=why))


def _tls(settings: ApiSettings) -> dict[str, Any]:
    """The arguments of the server for TLS; none where it is not wanted.

    Raises:
        SettingInvalid: the certificate and the key are none, or not of each other.
    """
    certificate, key = settings.http_tls_cert_file, settings.http_tls_key_file
    if certificate is None or key is None:
        return {}
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise SettingInvalid(
            f"HTTP_TLS_CERT_FILE is {certificate}: with HTTP_TLS_KEY_FILE {key} it cannot be used ({error})"
        ) from None
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


def _say_who_may_ask(settings: ApiSettings) -> None:
    if settings.auth == "off":
        telemetry.warn("auth.off", detail="everyone who reaches this address may ask and change everything; loopback")
        return
    telemetry.say("auth.on", ways=settings.ways, docs_open=settings.docs_open)
    loopback = settings.http_host == "localhost" or ipaddress.ip_address(settings.http_host).is_loopback
    if not loopback and settings.http_tls_cert_file is None:
        detail = "keys travel in the clear unless a proxy in front speaks TLS; or set HTTP_TLS_CERT_FILE and its key"
        telemetry.warn("tls.off", detail=detail)


def _listen(settings: ApiSettings) -> socket.socket:
    """Takes the port before anything else is done.

    Raises:
        SettingInvalid: it cannot be had.
    """
    host, port = settings.http_host, settings.http_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2_048)
    except OSError as error:
        problem = f"HTTP_PORT is {port}: it cannot be had on {host} ({error.strerror}); choose another"
        raise SettingInvalid(problem) from None
    # Connections inherit it. asyncio sees to it only on sockets of its own making; without it, head and body of an
    # answer travel 40 ms apart wherever the other side delays its acknowledgements.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def run(settings: ApiSettings) -> None:
    """Runs the service."""
    telemetry.start_logging()
    asyncio.run(serve(settings))
