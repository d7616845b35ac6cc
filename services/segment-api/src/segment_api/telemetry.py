"""What the API says: one JSON object a line on standard error, events with a fixed name and fields, never a key, a
payload or a customer; and its figures for Prometheus: each metric once, with its unit and meaning.
"""

import json
import logging
import sys
import time
from typing import Annotated, Any

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


class Metrics:
    """All metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tierline_http_requests_total", "Answers, by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "tierline_http_request_seconds",
            "Time to answer, by route.",
            ["route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self.registry,
        )
        self.lag = Gauge("tierline_ingest_lag_messages", "Messages not yet read.", registry=self.registry)
        self.halted = Gauge(
            "tierline_ingest_halted_partitions",
            "Partitions that stand still until resumed, because too many of their messages were rejected.",
            registry=self.registry,
        )
        self.events = Gauge(
            "tierline_ingest_messages", "Messages read so far, by outcome.", ["outcome"], registry=self.registry
        )
        self.customers = Gauge("tierline_customers", "Known customers.", registry=self.registry)
        self.tiers_current = Gauge(
            "tierline_tiers_current", "1 while the cut-offs cover every event applied.", registry=self.registry
        )

        self.model = Gauge(
            "tierline_model_version", "The model that customers are scored by; 0 for none.", registry=self.registry
        )

    def note(self, status: IngestStatus) -> None:
        """Takes over how ingestion stands."""
        self.lag.set(sum(each.lag for each in status.partitions))
        self.halted.set(sum(each.halt is not None for each in status.partitions))
        for outcome, count in status.events.items():
            self.events.labels(outcome.value).set(count)
        self.customers.set(status.customers)
        self.tiers_current.set(status.tiers_current)
        self.model.set(status.model_version)


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
