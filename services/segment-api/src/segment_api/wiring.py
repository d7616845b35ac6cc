"""Puts the API together: the only place that reads the clock and knows which store there is."""

import asyncio
import gc
import ipaddress
import os
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.loops.auto import auto_loop_factory

from segment_api import telemetry
from segment_api.app import Door, create_app, with_hot_lane
from segment_api.authenticating import Authenticator, Limits
from segment_api.change_hub import ChangeHub
from segment_api.context import Context
from segment_api.exporting import Slots
from segment_api.hot_lane import protocol
from segment_api.processes import Several, ended_with
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
from segmentation.storage.touched import PostgresWatch
from segmentation.storage.webhooks import PostgresWebhooks

_USES_EVERY_SECONDS = 60.0
"""Last uses of keys are written so often, and not with each request."""

_REFRESH_EVERY_SECONDS = 1.0

_FIGURES = "PROMETHEUS_MULTIPROC_DIR"
_MEBIBYTE = 1024 * 1024


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


async def serve(settings: ApiSettings, listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are answered first."""
    tls = _tls(settings)
    tokens = _token_reader(settings)
    url = settings.database_url.get_secret_value()
    engine = create_engine(url, application_name="segment-api", pool_size=settings.database_connections)
    feed = create_engine(url, application_name="segment-api feed", pool_size=1)
    access_log = telemetry.AccessLog(telemetry.write_to_standard_error)
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
            log=access_log.say if settings.access_log else None,
        )
        _say_who_may_ask(settings)
        app = create_app(
            context,
            door,
            kept_bytes=settings.lookup_cache_mb * _MEBIBYTE,
            figures_directory=_figures_directory(),
        )
        lane = with_hot_lane(app, door, access_log if settings.access_log else None)
        server = _Server(
            uvicorn.Config(
                lane,
                http=protocol(lane) if settings.http_trusted_proxies is None else "httptools",
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
        ended_with(lambda: setattr(server, "should_exit", True))
        beside = [
            asyncio.create_task(_every(_USES_EVERY_SECONDS, authenticator.note_uses, keys)),
            asyncio.create_task(_every(_REFRESH_EVERY_SECONDS, authenticator.refresh, keys)),
            asyncio.create_task(app.state.lookups.follow(PostgresWatch(feed))),
        ]
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await authenticator.note_uses(keys)
    finally:
        access_log.close()
        listener.close()
        await feed.dispose()
        await engine.dispose()


def _collect_less() -> None:
    """Lets the collector look at new objects alone, and less often.

    What there is by now stays for good, and is so much that looking through it holds everybody up for a tenth of a
    second; a bulk answer makes ten thousands of objects that all live as long as it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _every(seconds: float, do: Callable[[Keys], Awaitable[None]], keys: Keys) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await do(keys)
        except Exception as error:  # noqa: BLE001 - requests find out by themselves what this would have found
            telemetry.warn("keys.not_kept_up", doing=do.__name__, error=type(error).__name__)


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


def run(settings: ApiSettings) -> int:
    """Runs the service; returns the exit code."""
    telemetry.start_logging()
    listener = _listen(settings)
    if settings.http_workers == 1:
        _serve(settings, listener)
        return 0
    with tempfile.TemporaryDirectory(prefix="tierline-figures-") as directory:
        os.environ[_FIGURES] = directory  # noqa: TID251 - how the library is told, before the others import it
        figures = Path(directory)
        return Several(_serve, settings, listener, number=settings.http_workers, figures_directory=figures).run()


def _serve(settings: ApiSettings, listener: socket.socket) -> None:
    telemetry.start_logging()
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serve(settings, listener))


def _figures_directory() -> Path | None:
    """Where several processes keep their figures together."""
    directory = os.environ.get(_FIGURES)  # noqa: TID251 - as `run` told it to this process
    return None if directory is None else Path(directory)
