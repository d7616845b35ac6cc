"""What the API says: one JSON object a line on standard error, events with a fixed name and fields, never a key, a
payload or a customer; and its figures for Prometheus: each metric once, with its unit and meaning.
"""

import asyncio
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segmentation.access import Principal
from segmentation.answers import IngestStatus

_log = logging.getLogger("segment_api")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        return json.dumps(fields | getattr(record, "fields", {}), default=str)


def start_logging() -> None:
    """Lets what is said go to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    _log.handlers = [handler]
    _log.setLevel(logging.INFO)
    _log.propagate = False


def say(event: str, **fields: object) -> None:
    """Something ordinary happened."""
    _log.info(event, extra={"fields": fields})


def warn(event: str, **fields: object) -> None:
    """Something is not as it should be, and needs a person."""
    _log.warning(event, extra={"fields": fields})


class AccessLog:
    """The same lines, written many at a time: one for each request would cost more than many an answer.

    They are written beside the event loop: a disk that is busy holds nobody up, until very much waits for it.
    """

    _EVERY_SECONDS = 0.1
    _MOST_BYTES = 65_536
    _MOST_WHO = 1_000
    _MOST_WAITING = 256

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._lines = bytearray()
        self._flushing: asyncio.TimerHandle | None = None
        self._at = (0, "")
        self._who: dict[Principal, str] = {}
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="access-log")
        self._waiting: deque[Future[object]] = deque()

    def say(self, event: str, **fields: object) -> None:
        """Something ordinary happened."""
        self._add(msgspec.json.encode({"at": self._clock(), "level": "info", "event": event, **fields}) + b"\n")

    def answered(  # noqa: PLR0917 - a line, in its order
        self,
        method: str,
        route: str,
        request_id: str,
        status: int,
        seconds: float,
        sent: int,
        principal: Principal,
        client: str | None,
    ) -> None:
        """One answer of the hot lane: the line that `say("request.answered", ...)` would write, for less."""
        by = self._who.get(principal)
        if by is None:
            if len(self._who) >= self._MOST_WHO:
                self._who.clear()
            by = self._who[principal] = msgspec.json.encode(f"{principal.kind} {principal.id}".strip()).decode()
        self._add(
            f'{{"at":"{self._clock()}","level":"info","event":"request.answered","request_id":"{request_id}",'
            f'"method":"{method}","route":"{route}","status":{status},"milliseconds":{seconds * 1_000:.3f},'
            f'"bytes":{sent},"by":{by},"client":{msgspec.json.encode(client).decode()}}}\n'.encode()
        )

    def _clock(self) -> str:
        now = int(time.time())  # noqa: TID251 - the log's own look at the clock
        if now != self._at[0]:
            self._at = now, time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now))
        return self._at[1]

    def _add(self, line: bytes) -> None:
        self._lines += line
        if len(self._lines) > self._MOST_BYTES:
            self.flush()
        elif self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(self._EVERY_SECONDS, self.flush)

    def flush(self) -> None:
        """Has what has gathered written."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        lines, self._lines = bytes(self._lines), bytearray()
        if not lines:
            return
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > self._MOST_WAITING):
            self._waiting.popleft().result()
        self._waiting.append(self._writer.submit(self._write, lines))

    def close(self) -> None:
        """Writes the rest."""
        self.flush()
        self._writer.shutdown()


def write_to_standard_error(lines: bytes) -> None:
    """Whole lines, between those of others."""
    sys.stderr.flush()
    sys.stderr.buffer.write(lines)
    sys.stderr.buffer.flush()


class LookupFigures:
    """What answers about customers come from, and how much of them is kept."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lookups = Counter(
            "tierline_lookups_total",
            "Answers about one customer: hit, from memory; miss, read and kept; bypassed, read because memory could "
            "not be trusted; away, from memory while the database was out of reach.",
            ["outcome"],
            registry=registry,
        )
        self.hit, self.miss, self.bypassed, self.away = (
            lookups.labels(outcome) for outcome in ("hit", "miss", "bypassed", "away")
        )
        self.dropped = Counter(
            "tierline_lookup_dropped_total", "Kept answers dropped because they had changed.", registry=registry
        )
        self.customers = Gauge(
            "tierline_lookup_customers", "Customers kept.", registry=registry, multiprocess_mode="livesum"
        )
        self.bytes = Gauge(
            "tierline_lookup_bytes", "Memory that they take, about.", registry=registry, multiprocess_mode="livesum"
        )
        self.looked_at = Gauge(
            "tierline_feed_looked_at_seconds",
            "When what changes was last looked at, in seconds since 1970; of several processes the one longest ago.",
            registry=registry,
            multiprocess_mode="livemin",
        )


class Metrics:
    """All metrics of one application, in as many processes as it has.

    Args:
        directory: Where all processes keep their figures, as the library was told before it was imported; None where
            this is the only process.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        self._directory = directory
        self.seconds_at_most = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
        self.noting: list[Callable[[], None]] = []
        """To be called before the figures are shown."""
        self.lookups = LookupFigures(self.registry)
        self.requests = Counter(
            "tierline_http_requests_total", "Answers, by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "tierline_http_request_seconds",
            "Time to answer, by route.",
            ["route"],
            buckets=self.seconds_at_most,
            registry=self.registry,
        )
        # Of all processes alike, so whoever looked last knows best.
        gauge = partial(Gauge, registry=self.registry, multiprocess_mode="mostrecent")
        self.lag = gauge("tierline_ingest_lag_messages", "Messages not yet read.")
        self.halted = gauge(
            "tierline_ingest_halted_partitions",
            "Partitions that stand still until resumed, because too many of their messages were rejected.",
        )
        self.events = gauge("tierline_ingest_messages", "Messages read so far, by outcome.", ["outcome"])
        self.customers = gauge("tierline_customers", "Known customers.")
        self.tiers_current = gauge("tierline_tiers_current", "1 while the cut-offs cover every event applied.")
        self.model = gauge("tierline_model_version", "The model that customers are scored by; 0 for none.")

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format, of all processes together."""
        for note in self.noting:
            note()
        registry = self.registry
        if self._directory is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, str(self._directory))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def note(self, status: IngestStatus) -> None:
        """Takes over how ingestion stands."""
        self.lag.set(sum(each.lag for each in status.partitions))
        self.halted.set(sum(each.halt is not None for each in status.partitions))
        for outcome, count in status.events.items():
            self.events.labels(outcome.value).set(count)
        self.customers.set(status.customers)
        self.tiers_current.set(status.tiers_current)
        self.model.set(status.model_version)


class HotFigures:
    """Of the hot lane: the same figures as of any other route, added many at a time."""

    _EVERY_SECONDS = 0.1

    def __init__(self, metrics: Metrics, route: str) -> None:
        self._hit = metrics.lookups.hit
        self._ok, self._unchanged = (metrics.requests.labels(route, status) for status in ("200", "304"))
        self._seconds = metrics.seconds.labels(route)
        self._at_most = metrics.seconds_at_most[0]
        self._noting: asyncio.TimerHandle | None = None
        self._answers = self._not_modified = self._quick = 0
        self._quick_seconds = 0.0
        metrics.noting.append(self.note)

    def add(self, seconds: float, *, unchanged: bool) -> None:
        """One answer."""
        self._answers += 1
        self._not_modified += unchanged
        if seconds <= self._at_most:
            self._quick += 1
            self._quick_seconds += seconds
        else:
            self._seconds.observe(seconds)
        if self._noting is None:
            self._noting = asyncio.get_running_loop().call_later(self._EVERY_SECONDS, self.note)

    def note(self) -> None:
        """Adds what has gathered."""
        if self._noting is not None:
            self._noting.cancel()
            self._noting = None
        self._hit.inc(self._answers)
        self._ok.inc(self._answers - self._not_modified)
        self._unchanged.inc(self._not_modified)
        # The library observes one at a time, which takes longer than an answer; of the first bucket it would do this.
        self._seconds._sum.inc(self._quick_seconds)  # noqa: SLF001
        self._seconds._buckets[0].inc(self._quick)  # noqa: SLF001
        self._answers = self._not_modified = self._quick = 0
        self._quick_seconds = 0.0


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


Telemetry = Annotated[Metrics, Depends(_metrics)]


class CountRequests:
    """ASGI middleware: counts and times every answer under its route's template, never under an id."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        finally:
            route: Any = scope.get("route")
            template = getattr(route, "path", "other")
            self._metrics.requests.labels(template, str(status)).inc()
            self._metrics.seconds.labels(template).observe(time.perf_counter() - began)
