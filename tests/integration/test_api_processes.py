"""Several API processes behind one address: each follows what changes, and one that fails is no loss to callers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import an_order, as_message
from tests.support.histories import NOW
from tests.support.lanes import a_request, ask
from tests.support.ledgers import PostgresStore, Worker, in_postgres, settle
from tests.support.oracle import Setting
from tests.support.workers import environment, eventually

from local_stack.ports import free_port
from segment_api.settings import ApiSettings
from segmentation.fields import CustomerId
from segmentation.overrides import WantedOverride
from segmentation.tiering import Tier

PROGRAM: Final = Path(sys.executable).with_name("segment-api")
SETTING: Final = Setting(clock="event")


class Running:
    """One `segment-api run`."""

    def __init__(self, database_url: str, log: Path, **settings: str) -> None:
        self.port = free_port()
        self.log = log
        self.answered = 0
        own = {name.upper(): "" for name in ApiSettings.model_fields}
        given = {name: value for name, value in environment({}).items() if name.upper() not in own} | {
            "DATABASE_URL": database_url,
            "HTTP_PORT": str(self.port),
            "CLOCK": SETTING.clock,
            "BASE_CURRENCY": SETTING.base_currency,
            "BUSINESS_TIMEZONE": SETTING.timezone,
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(PROGRAM), "run"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=given | settings
            )

    @property
    def children(self) -> list[psutil.Process]:
        found = []
        for each in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                if "spawn_main" in " ".join(each.cmdline()):
                    found.append(each)
        return found

    async def ready(self) -> None:
        async def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError, EOFError):
                return (await ask(self.port, a_request("/health/ready"))).status == 200
            return False

        await eventually(answers, "the API", told=self.log.read_text)

    async def segment(self) -> dict[str, Any]:
        told = await ask(self.port, a_request())
        assert told.status == 200, told.raw
        self.answered += 1
        answer: dict[str, Any] = json.loads(told.body)
        return answer

    async def figures(self) -> dict[str, float]:
        shown = (await ask(self.port, a_request("/metrics"))).body.decode()
        return {
            " ".join((sample.name, *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(shown)
            for sample in family.samples
        }

    async def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 60)


@pytest.fixture
async def store(engine: AsyncEngine) -> PostgresStore:
    store = await in_postgres(engine, SETTING)
    await Worker(store).read([as_message(an_order())], now=NOW)
    await settle(store, now=NOW)
    return store


@contextlib.asynccontextmanager
async def running(database_url: str, tmp_path: Path, **settings: str) -> AsyncIterator[Running]:
    api = Running(database_url, tmp_path / "api.log", **settings)
    try:
        await api.ready()
        yield api
    finally:
        assert await api.stop() == 0, api.log.read_text()


@contextlib.contextmanager
def alone(child: psutil.Process, api: Running) -> Iterator[None]:
    """All others stand still, so this one answers."""
    others = [each for each in api.children if each.pid != child.pid]
    for each in others:
        each.suspend()
    yield
    for each in others:
        each.resume()


async def override(store: PostgresStore, tier: str) -> None:
    wanted = WantedOverride(Tier(tier), None, "because", "ops", date(2026, 12, 31))
    refused = await store.overrides.set_overrides({CustomerId("C-1"): wanted}, now=NOW)
    assert refused == {"C-1": None}


async def test_a_process_that_was_frozen_shows_nothing_of_before(
    database_url: str, store: PostgresStore, tmp_path: Path
) -> None:
    """However long it stood still: what it kept is not trusted before it has looked again."""
    async with running(database_url, tmp_path) as api:
        for tier in ("C", "B", "A", "C"):
            for _ in range(20):
                await api.segment()
            os.kill(api.process.pid, signal.SIGSTOP)
            waiting = asyncio.create_task(api.segment())  # in the socket already when it wakes
            await override(store, tier)
            await asyncio.sleep(0.7)
            late = asyncio.create_task(api.segment())
            await asyncio.sleep(0.1)
            os.kill(api.process.pid, signal.SIGCONT)
            assert (await waiting)["value_tier"] == tier
            assert (await late)["value_tier"] == tier


async def test_several_processes_answer_alike_and_are_counted_together(
    database_url: str, store: PostgresStore, tmp_path: Path
) -> None:
    async with running(database_url, tmp_path, HTTP_WORKERS="2") as api:
        assert len(api.children) == 2
        for tier in ("B", "C"):
            await override(store, tier)
            for child in api.children:
                with alone(child, api):

                    async def seen(tier: str = tier) -> bool:
                        return {(await api.segment())["value_tier"] for _ in range(5)} == {tier}

                    await eventually(seen, f"tier {tier} in every process")
        for _ in range(100):
            await api.segment()

        async def counted() -> bool:
            figures = await api.figures()
            return figures["tierline_http_requests_total /customers/{customer_id}/segment 200"] == api.answered

        await eventually(counted, "all answers of both to be counted, each once")
        figures = await api.figures()
        assert figures["tierline_customers"] == 1
        assert figures["tierline_lookup_customers"] == 2  # once in each

        killed = api.children[0]
        killed.kill()

        async def back() -> bool:
            alive = api.children
            return len(alive) == 2 and killed.pid not in {each.pid for each in alive}

        await eventually(back, "another process in its place", told=api.log.read_text)
        for _ in range(20):
            assert (await api.segment())["value_tier"] == "C"
        children = api.children
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


async def test_processes_end_with_the_one_that_looks_after_them(
    database_url: str, store: PostgresStore, tmp_path: Path
) -> None:
    api = Running(database_url, tmp_path / "api.log", HTTP_WORKERS="2")
    await api.ready()
    children = api.children
    api.process.kill()
    await asyncio.to_thread(api.process.wait, 60)
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 60)
    assert not alive


async def test_processes_that_cannot_start_say_so_and_end(database_url: str, tmp_path: Path) -> None:
    api = Running(database_url.rpartition("/")[0] + "/nowhere", tmp_path / "api.log", HTTP_WORKERS="2")
    assert await asyncio.to_thread(api.process.wait, 60) == 1
    assert "segment-api: DATABASE_URL is refused" in api.log.read_text()
