"""What the worker says: events with a fixed name and fields, one JSON object a line on standard error; and its figures
for Prometheus, each once, with its unit and meaning.

Never a payload, a key or a secret: ids of partitions, counts, durations and names of errors only.
"""

import json
import logging
import sys
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_log = logging.getLogger("ingest_worker")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        fields |= getattr(record, "fields", {})
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class _OncePerWhile(logging.Filter):
    """Lets each message of the Kafka client through once per while: a broker that is away is news, not a flood."""

    _SECONDS = 30.0

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        place = (record.pathname, record.lineno)
        if record.created - self._said.get(place, 0.0) < self._SECONDS:
            return False
        self._said[place] = record.created
        return True


def start_logging() -> None:
    """Sends log events to standard error; the Kafka client's and the HTTP server's own only from warnings on."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(_JsonLines())
    output.addFilter(_OncePerWhile())
    logging.basicConfig(level=logging.INFO, handlers=[output])
    for library in ("aiokafka", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)


def say(event: str, **fields: object) -> None:
    """Something ordinary happened."""
    _log.info(event, extra={"fields": fields})


def warn(event: str, **fields: object) -> None:
    """Something is in the way, and will be tried again or needs a person."""
    _log.warning(event, extra={"fields": fields})


def page(event: str, **fields: object) -> None:
    """Something stands still until a person acts; said again and again until then."""
    _log.error(event, extra={"fields": fields})


def alarm(event: str, **fields: object) -> None:
    """Something happened that nobody foresaw; with the trace of the exception at hand."""
    _log.exception(event, extra={"fields": fields})


class _Figures:
    """What one process counts."""

    def __init__(self, namespace: str = "") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(namespace, registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"tierline_worker_{name}", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"tierline_worker_{name}", meaning, labels, registry=self.registry)


class Metrics(_Figures):
    """All figures of the process that reads."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = self._counter("messages_total", "Messages recorded, by outcome.", "outcome")
        self.batches = self._counter("batches_total", "Batches recorded.")
        self.batch_seconds = Histogram(
            "tierline_worker_batch_seconds",
            "Time to record a batch: one transaction.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        self.session_endings = self._counter("session_endings_total", "Sessions that ended by a failure.", "error")
        self.partitions = self._gauge("partitions", "Partitions claimed.")
        self.lag = self._gauge(
            "lag_messages", "Messages not yet read, of the partitions claimed.", "topic", "partition"
        )
        self.seconds_since_turn = self._gauge("seconds_since_poll", "Since the consuming loop last came round.")
        self.waiting = self._gauge("waiting", "1 while a part waits for something.", "part", "for")


class DutyMetrics(_Figures):
    """All figures of the process of the duties."""

    def __init__(self) -> None:
        super().__init__("tierline_worker_duties")
        self.swept = self._counter("swept_customers_total", "Customers assessed anew because time has passed.")
        self.settlings = self._counter("settlings_total", "Rankings of everyone that were published.")
        self.relayed = self._counter("relayed_messages_total", "Messages acknowledged by the output topics.", "feed")
        self.webhook_attempts = self._counter("webhook_attempts_total", "Messages posted to webhooks.", "outcome")
