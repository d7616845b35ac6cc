"""The worker's own HTTP endpoint: is it alive, is it ready and if not what for, and its figures.

Laws: it answers from memory alone, so it answers whatever else is away; it names partitions, counts and errors, never
a customer or a message, so it may listen where probes reach it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest_worker.condition import Condition
from ingest_worker.telemetry import Metrics
from segmentation.errors import SettingInvalid

_OK = 200
_UNAVAILABLE = 503


def listen(host: str, port: int) -> socket.socket:
    """Takes the port before anything else is done.

    Raises:
        SettingInvalid: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        problem = f"WORKER_HTTP_PORT is {port}: it cannot be had on {host} ({error.strerror}); choose another"
        raise SettingInvalid(problem) from None


def application(condition: Condition, metrics: Metrics, duty_metrics: Callable[[], str]) -> Starlette:
    """What answers; the figures of the duties are what their process last said."""

    async def read_live(_: Request) -> JSONResponse:
        ailment = condition.ailment()
        told = {"status": "live"} if ailment is None else {"status": "stuck", "detail": ailment}
        return JSONResponse(told, _OK if ailment is None else _UNAVAILABLE)

    async def read_ready(_: Request) -> JSONResponse:
        waiting = [wait.described() for wait in condition.waiting]
        status = "waiting" if waiting else "ready"
        told = {"status": status, "partitions": len(condition.lags), "waiting_for": waiting}
        return JSONResponse(told, _UNAVAILABLE if waiting else _OK)

    async def read_metrics(_: Request) -> Response:
        note(condition, metrics)
        text = generate_latest(metrics.registry).decode() + duty_metrics()
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/health/live", read_live),
            Route("/health/ready", read_ready),
            Route("/metrics", read_metrics),
        ]
    )


def note(condition: Condition, metrics: Metrics) -> None:
    """Takes the condition over into the figures."""
    metrics.seconds_since_turn.set(condition.seconds_since_turn)
    metrics.partitions.set(len(condition.lags))
    metrics.lag.clear()
    for partition, lag in condition.lags.items():
        metrics.lag.labels(partition.topic, str(partition.number)).set(lag)
    metrics.waiting.clear()
    for wait in condition.waiting:
        metrics.waiting.labels(wait.part.value, wait.awaited.value).set(1)


class _Server(uvicorn.Server):
    """A server that leaves the signals to the worker."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(listener: socket.socket, app: Starlette, *, stop: asyncio.Event) -> None:
    """Answers until told to stop."""
    server = _Server(
        uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=2
        )
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]))
        await stop.wait()
        server.should_exit = True
