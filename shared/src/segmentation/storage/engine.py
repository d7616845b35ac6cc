"""Connections to PostgreSQL, and what their failures mean to us."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import msgspec
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from segmentation.errors import SettingInvalid, StartRefused, StoreUnavailable
from segmentation.storage import bulk

_PASSING_CLASSES = ("08", "40", "53", "55", "57", "58")
"""SQLSTATE classes that a later try may not meet: connection, rollback, resources, locks, intervention, system."""

_PASSING_STATES = ("25006", "25P03", "25P04")
"""Of a class that does not pass otherwise: a server that only reads (a fail-over), a transaction out of time."""

_REFUSED_CLASSES = ("28", "3D")
"""No such user or password, no such database: nothing that waiting mends."""

_STATEMENT_SECONDS = 60
_ANSWER_SECONDS = 65.0
"""The server gives a statement up before: who hears nothing for so long is talking to nobody."""


_TLS_OPTIONS = ("sslmode", "ssl", "sslrootcert", "sslcert", "sslkey")
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def driver_url(database_url: str) -> str:
    """The address for SQLAlchemy's asyncpg dialect, from any usual spelling; what it says of TLS is left out."""
    parts = urlsplit(database_url)
    others = [(name, value) for name, value in parse_qsl(parts.query) if name not in _TLS_OPTIONS]
    return urlunsplit(parts._replace(scheme="postgresql+asyncpg", query=urlencode(others)))


def tls_arguments(database_url: str) -> dict[str, Any]:
    """What the driver needs for TLS as the address asks for it, by libpq's names.

    `sslmode`, `sslrootcert` (where not given, the system's authorities), `sslcert` and `sslkey`.

    Raises:
        SettingInvalid: they do not go together, or a file cannot be used.
    """
    asked = {name: value for name, value in parse_qsl(urlsplit(database_url).query) if name in _TLS_OPTIONS}
    mode = asked.get("sslmode") or asked.get("ssl")
    authorities, certificate, key = asked.get("sslrootcert"), asked.get("sslcert"), asked.get("sslkey")
    if mode is None and not asked:
        return {}
    if mode not in _TLS_MODES:
        raise SettingInvalid(f"DATABASE_URL has sslmode={mode}: one of {', '.join(_TLS_MODES)} is expected")
    if bool(certificate) != bool(key):
        raise SettingInvalid("DATABASE_URL has only one of sslcert and sslkey: a client's certificate needs both")
    verified = mode.startswith("verify") or (mode == "require" and authorities is not None)
    if not verified and not certificate:
        if authorities is not None:
            raise SettingInvalid(f"DATABASE_URL has sslrootcert, but sslmode={mode} verifies nothing: use verify-full")
        return {"ssl": mode}
    if mode in _TLS_MODES[:3]:
        raise SettingInvalid(f"DATABASE_URL has sslcert, but sslmode={mode} may send nothing by TLS: use verify-full")
    try:
        context = ssl.create_default_context(cafile=authorities)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        named = ", ".join(f"{name} {value}" for name, value in asked.items() if name not in ("sslmode", "ssl"))
        raise SettingInvalid(f"DATABASE_URL has {named}: it cannot be used ({error})") from None
    context.check_hostname = mode == "verify-full"
    if not verified:
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}


_BY_KEYS = {
    # Of a table that has just grown the planner has no statistics. It thinks that a few hundred ids name all of its
    # rows, and reads it whole, with helpers, for every batch until it is analysed a minute later.
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
}


def create_engine(
    database_url: str, *, application_name: str, pool_size: int, asks_by_keys: bool = False
) -> AsyncEngine:
    """A pool of connections that give up rather than wait without end.

    Args:
        database_url: Where.
        application_name: As the database shows it.
        pool_size: Connections, at most.
        asks_by_keys: Whoever uses it has hardly a question that is not about a few rows named by their keys.
    """
    engine = create_async_engine(
        driver_url(database_url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=True,
        json_deserializer=msgspec.json.decode,
        hide_parameters=True,  # an error may be logged, a customer may not
        connect_args=tls_arguments(database_url)
        | {
            "timeout": 10,
            # A connection can be alive and dumb (a middlebox, a stopped server): TCP alone never notices.
            "command_timeout": _ANSWER_SECONDS,
            "server_settings": {
                "application_name": application_name,
                "statement_timeout": f"{_STATEMENT_SECONDS}s",
                "lock_timeout": "30s",
                # A process that was stopped in mid-transaction frees its locks, one that holds a place frees that.
                "idle_in_transaction_session_timeout": "15s",
                "jit": "off",
            }
            | (_BY_KEYS if asks_by_keys else {}),
        },
    )
    event.listen(engine.sync_engine, "handle_error", _give_up_connections)
    return engine


def _give_up_connections(failure: ExceptionContext) -> None:
    # To a dumb one: rolling back would be to ask once more, and to wait as long again. To one that only reads: the
    # server was the first one once, and a new connection may find the one that is now.
    dumb = isinstance(failure.original_exception, TimeoutError)
    if dumb or getattr(failure.original_exception, "sqlstate", None) == "25006":
        failure.is_disconnect = True


@contextlib.asynccontextmanager
async def transaction(engine: AsyncEngine, *, isolation: str | None = None) -> AsyncIterator[AsyncConnection]:
    """One transaction, committed at the end of the block, rolled back by any exception.

    Raises:
        StoreUnavailable: for every failure that a later try may not meet.
    """
    with translated_failures():
        async with engine.connect() as connection:
            if isolation is not None:
                await connection.execution_options(isolation_level=isolation)
            notes = connection.info
            try:
                async with connection.begin():
                    yield connection
            except BaseException:
                bulk.rolled_back(notes)
                raise
            bulk.committed(notes)


@contextlib.contextmanager
def translated_failures() -> Any:  # noqa: ANN401 - a generator for contextlib
    """Turns the driver's passing failures into StoreUnavailable."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if isinstance(getattr(error, "orig", error), ssl.SSLCertVerificationError):
            raise StartRefused(
                f"DATABASE_URL: the certificate of the database is not believed ({error}); correct sslrootcert, the "
                "host in the address, or the certificate"
            ) from None
        if _state(error)[:2] in _REFUSED_CLASSES:
            said = str(getattr(error, "orig", error)).partition(": ")[2] or "access denied"
            raise StartRefused(f"DATABASE_URL is refused by the database: {said}; correct it") from None
        if not _is_passing(error):
            raise
        raise StoreUnavailable(f"the database is not available: {type(error).__name__}") from error


def _state(error: Exception) -> str:
    """The SQLSTATE of an error; empty where it has none."""
    return str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")


def _is_passing(error: Exception) -> bool:
    if isinstance(getattr(error, "orig", None), AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError):
        return True  # the tables were migrated meanwhile; every connection forgets its statements with this
    if _state(error):
        return _state(error)[:2] in _PASSING_CLASSES or _state(error) in _PASSING_STATES
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))
    return True
