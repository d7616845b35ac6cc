"""What the worker says: events with a fixed name and fields, one JSON object a line on standard error.

Never a payload, a key or a secret: ids of partitions, counts, durations and names of errors only.
"""

import json
import logging
import sys
from typing import Any

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
    """Sends log events to standard error; the Kafka client's own only from warnings on."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(_JsonLines())
    output.addFilter(_OncePerWhile())
    logging.basicConfig(level=logging.INFO, handlers=[output])
    logging.getLogger("aiokafka").setLevel(logging.WARNING)


def say(event: str, **fields: object) -> None:
    """Something ordinary happened."""
    _log.info(event, extra={"fields": fields})


def warn(event: str, **fields: object) -> None:
    """Something is in the way, and will be tried again or needs a person."""
    _log.warning(event, extra={"fields": fields})


def alarm(event: str, **fields: object) -> None:
    """Something happened that nobody foresaw; with the trace of the exception at hand."""
    _log.exception(event, extra={"fields": fields})
