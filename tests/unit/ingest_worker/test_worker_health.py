"""The worker's endpoint over a condition of the test's own; its figures, held to what is documented."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingest_worker import health
from ingest_worker.condition import Awaited, Condition, Part
from ingest_worker.telemetry import DutyMetrics, Metrics
from segmentation.errors import SettingInvalid
from segmentation.outcomes import Partition

RUNBOOK: Final = Path(__file__).resolve().parents[3] / "docs" / "runbooks" / "ingestion.md"
BEGAN: Final = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


class Endpoint:
    """The application, and what it tells of."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.condition = Condition(now=lambda: BEGAN, monotonic=lambda: self.seconds)
        self.metrics = Metrics()
        self.duty_metrics = DutyMetrics()
        app = health.application(
            self.condition, self.metrics, lambda: generate_latest(self.duty_metrics.registry).decode()
        )
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://worker")

    async def ask(self, path: str) -> tuple[int, Any]:
        answer = await self._client.get(path)
        return answer.status_code, answer.json()

    async def figures(self) -> dict[tuple[str, ...], float]:
        answer = await self._client.get("/metrics")
        assert answer.status_code == 200
        return {
            (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


async def test_a_worker_is_ready_when_it_waits_for_nothing(endpoint: Endpoint) -> None:
    status, told = await endpoint.ask("/health/ready")
    assert (status, told["status"], told["partitions"]) == (503, "waiting", 0)
    assert [(wait["part"], wait["for"]) for wait in told["waiting_for"]] == [("consumer", "partitions")]
    endpoint.condition.works(Part.CONSUMER)
    endpoint.condition.holds({Partition("t", 0): 0, Partition("t", 1): 7})
    assert await endpoint.ask("/health/ready") == (200, {"status": "ready", "partitions": 2, "waiting_for": []})


async def test_a_worker_lives_while_its_loop_turns(endpoint: Endpoint) -> None:
    assert await endpoint.ask("/health/live") == (200, {"status": "live"})
    endpoint.seconds = 1_000
    status, told = await endpoint.ask("/health/live")
    assert (status, told["status"]) == (503, "stuck")
    assert "1000 s" in told["detail"]


async def test_the_figures_are_those_of_now(endpoint: Endpoint) -> None:
    """A partition that went, or a wait that is over, leaves no figure behind."""
    endpoint.condition.holds({Partition("t", 0): 3, Partition("t", 1): 4})
    endpoint.condition.waits(Part.RELAY, Awaited.BROKER, "")
    endpoint.metrics.messages.labels("applied").inc(5)
    endpoint.duty_metrics.settlings.inc(2)
    endpoint.seconds = 2.5
    figures = await endpoint.figures()
    assert figures["tierline_worker_messages_total", "applied"] == 5
    assert figures["tierline_worker_settlings_total",] == 2
    assert figures["tierline_worker_seconds_since_poll",] == 2.5
    assert figures["tierline_worker_lag_messages", "1", "t"] == 4
    assert figures["tierline_worker_waiting", "broker", "relay"] == 1
    endpoint.condition.holds({Partition("t", 0): 1})
    endpoint.condition.works(Part.RELAY)
    figures = await endpoint.figures()
    assert figures["tierline_worker_partitions",] == 1
    assert [name for name in figures if name[0] == "tierline_worker_lag_messages"] == [
        ("tierline_worker_lag_messages", "0", "t")
    ]
    assert [name[1:] for name in figures if name[0] == "tierline_worker_waiting"] == [("partitions", "consumer")]


def test_every_figure_and_everything_waited_for_is_in_the_runbook(endpoint: Endpoint) -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    documented = set(re.findall(r"`(tierline_worker_\w+)", text))
    registries = (endpoint.metrics.registry, endpoint.duty_metrics.registry)
    collected = {
        family.name for registry in registries for family in registry.collect() if "_process_" not in family.name
    }
    named = {name.removesuffix("_total") for name in documented if "_process_" not in name}
    assert named == {name for name in collected if name.startswith("tierline_")}
    assert {awaited for awaited in Awaited if f"`{awaited}`" not in text} == set()


def test_a_taken_port_is_one_line_that_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(SettingInvalid, match=f"WORKER_HTTP_PORT is {port}: .*choose another") as refused:
            health.listen("127.0.0.1", port)
    assert "\n" not in str(refused.value)
