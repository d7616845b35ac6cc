"""The real `ingest-worker` as a process of a test's own, and what a test asks about it.

Laws: a process here gets none of the settings of whoever runs the tests; only processes started here are signalled,
each by its own id; what is awaited is asked for again and again, up to a limit that decides nothing but how long a
failure takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import psutil
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest_worker.settings import WorkerSettings
from local_stack.strays import Stray
from segmentation.answers import IngestStatus, PartitionStatus
from segmentation.ledger import House

from .ledgers import PostgresStore

ROOT: Final = Path(__file__).resolve().parents[2]
HOUSE: Final = House("event", "CNY", "Asia/Shanghai")
PROGRAM: Final = Path(sys.executable).with_name("ingest-worker")
SETTINGS: Final = frozenset(name.upper() for name in WorkerSettings.model_fields)
LIMIT_SECONDS: Final = 120.0
_ASK_AGAIN_SECONDS: Final = 0.1
_LOOK_AGAIN_SECONDS: Final = 0.005


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """What a process of ours is started with: these settings and no other."""
    inherited = {name: value for name, value in os.environ.items() if name.upper() not in SETTINGS}  # noqa: TID251
    return {**inherited, **settings}


def command(*arguments: str, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs `ingest-worker` to its end."""
    return subprocess.run(
        [str(PROGRAM), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        env=environment(settings),
    )


async def eventually(
    check: Callable[[], Awaitable[bool]], what: str, *, seconds: float = LIMIT_SECONDS, told: Callable[[], str] = str
) -> None:
    """Waits until the check holds; `told` is asked for what else there is to say when it never does."""
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}\n{told()}"
        await asyncio.sleep(_ASK_AGAIN_SECONDS)


class WorkerProcess:
    """One `ingest-worker run`."""

    def __init__(self, settings: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(PROGRAM), "run"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(settings),
            )
        self._wanted = True

    @property
    def ended_unasked(self) -> bool:
        return self._wanted and not self.running

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @property
    def duties(self) -> psutil.Process | None:
        """The process of its duties; None while it has none."""
        return next(iter(psutil.Process(self._process.pid).children()), None) if self.running else None

    def kill(self) -> None:
        """`kill -9`, which the process of its duties does not outlive."""
        self._wanted = False
        duties = self.duties
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + LIMIT_SECONDS
        while duties is not None and Stray(duties).alive:
            assert time.monotonic() < deadline, "the process of its duties lives on"
            time.sleep(_LOOK_AGAIN_SECONDS)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._wanted = False
        self._process.terminate()
        return self._process.wait(LIMIT_SECONDS)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        # the last line may be half written, and a traceback is no event
        lines = self.log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in said if line["event"] == event]

    def owns(self, partition: PartitionStatus) -> bool:
        return partition.worker in {line["owner"] for line in self.said("worker.started")}

    def last_words(self) -> str:
        state = "runs" if self.running else f"ended with {self._process.returncode}"
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return "\n".join([f"worker {self._process.pid} {state}:", *lines[-15:]])


@dataclass(slots=True)
class Site:
    """A database, topics and a consumer group of a test's own, and the workers started on them."""

    engine: AsyncEngine
    settings: dict[str, str]
    directory: Path
    workers: list[WorkerProcess] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        engine: AsyncEngine,
        directory: Path,
        *,
        database_url: str,
        kafka: str,
        topics: Mapping[str, str],
        house: House,
    ) -> Self:
        settings = {
            "DATABASE_URL": database_url,
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "KAFKA_GROUP_ID": f"tests-{uuid4().hex}",
            "CLOCK": house.clock,
            "BASE_CURRENCY": house.base_currency,
            "BUSINESS_TIMEZONE": house.time_zone,
            **topics,
        }
        return cls(engine, settings, directory)

    @property
    def store(self) -> PostgresStore:
        settings = self.settings
        return PostgresStore(
            self.engine, House(settings["CLOCK"], settings["BASE_CURRENCY"], settings["BUSINESS_TIMEZONE"])
        )

    def start(self, **settings: str) -> WorkerProcess:
        """Starts a worker, with these settings in the place of the site's."""
        log = self.directory / f"worker-{len(self.workers) + 1}.log"
        self.workers.append(WorkerProcess(self.settings | settings, log))
        return self.workers[-1]

    def command(self, *arguments: str) -> str:
        """Runs `ingest-worker` to its successful end; what it printed."""
        done = command(*arguments, settings=self.settings)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    async def status(self) -> IngestStatus:
        # before the first worker's start the database has nothing to tell
        await self.eventually(self._has_begun, "a worker to start")
        return await self.store.status(now=datetime.now(UTC))  # noqa: TID251 - the tests' own

    async def read(self) -> int:
        """How many messages have had their outcome."""
        return sum((await self.status()).events.values())

    async def has_read(self, count: int) -> None:
        """Waits until at least so many messages have had their outcome."""

        async def check() -> bool:
            return await self.read() >= count

        await self.eventually(check, f"{count} messages to be read")

    async def is_in(self, count: int) -> IngestStatus:
        """Waits until so many messages have had their outcome, none is left, and the tiers cover them."""

        async def check() -> bool:
            status = await self.status()
            unread = any(partition.lag for partition in status.partitions)
            return sum(status.events.values()) >= count and not unread and status.tiers_current

        await self.eventually(check, f"{count} messages to be read, without a lag, and the tiers to cover them")
        return await self.status()

    async def is_shared_by(self, *workers: WorkerProcess) -> None:
        """Waits until each of these workers owns partitions, and nobody else does."""

        async def check() -> bool:
            partitions = (await self.status()).partitions
            owned = [[worker for worker in workers if worker.owns(partition)] for partition in partitions]
            return bool(owned) and all(owned) and all([worker] in owned for worker in workers)

        await self.eventually(check, f"{len(workers)} workers to share all partitions")

    async def _has_begun(self) -> bool:
        return not self.workers or any(worker.said("worker.started") for worker in self.workers)

    async def eventually(self, check: Callable[[], Awaitable[bool]], what: str) -> None:
        """Waits until the check holds, while the workers run."""

        async def check_while_running() -> bool:
            if await check():
                return True
            assert not any(worker.ended_unasked for worker in self.workers), self._told()
            return False

        await eventually(check_while_running, what, told=self._told)

    def _told(self) -> str:
        return "\n".join(worker.last_words() for worker in self.workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
