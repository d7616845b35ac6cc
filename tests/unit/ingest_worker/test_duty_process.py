"""The process of the duties, with small programs in its place: how it is started, heard, ended and started again."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest

from ingest_worker import duty_process
from ingest_worker.condition import DUTIES, Awaited, Condition, Part, Wait
from ingest_worker.duty_process import DutyProcess, Report, reporting
from ingest_worker.telemetry import DutyMetrics
from ingest_worker.waiting import Backoff

BEGAN = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
AWAY = Wait(Part.RELAY, Awaited.BROKER, BEGAN, "connection refused")
LIMIT_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _short_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duty_process, "_END_SECONDS", 1.0)


def saying(*reports: Report, then: str = "time.sleep(600)") -> str:
    """A program that says this, and then does that."""
    lines = b"".join(msgspec.json.encode(report) + b"\n" for report in reports)
    return f"import os, signal, sys, time\nos.write(1, {lines!r})\n{then}"


def noting(file: Path, program: str) -> str:
    """The same program, which leaves its process id first."""
    return f"import os\nopen({str(file)!r}, 'a').write(f'{{os.getpid()}}\\n')\n{program}"


class Duties:
    """A process of duties, and whoever listens to it."""

    def __init__(self, program: str, silence_seconds: float) -> None:
        self.stop = asyncio.Event()
        self.condition = Condition(now=lambda: BEGAN, monotonic=lambda: 0.0)
        self.condition.works(Part.CONSUMER)
        self.process = DutyProcess(
            stop=self.stop,
            condition=self.condition,
            backoff=Backoff(chance=lambda: 0.0, first_seconds=0.01, longest_seconds=0.01),
            silence_seconds=silence_seconds,
            command=[sys.executable, "-c", program],
        )

    async def eventually(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not holds():
            assert time.monotonic() < deadline, self.condition.waiting
            await asyncio.sleep(0.01)

    def said(self, detail: str) -> bool:
        return any(detail in wait.detail for wait in self.condition.waiting)


@asynccontextmanager
async def running(program: str, *, silence_seconds: float = LIMIT_SECONDS) -> AsyncIterator[Duties]:
    duties = Duties(program, silence_seconds)
    task = asyncio.create_task(duties.process.run())
    try:
        yield duties
    finally:
        duties.stop.set()
        await asyncio.wait_for(task, LIMIT_SECONDS)


def ids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def test_until_it_has_said_how_it_is_the_duties_wait_for_it(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    async with running(noting(file, "import time; time.sleep(600)")) as duties:
        await duties.eventually(lambda: bool(ids(file)))
        assert [(wait.part, wait.awaited) for wait in duties.condition.waiting] == [
            (part, Awaited.PROCESS) for part in DUTIES
        ]


async def test_what_it_says_is_taken_over() -> None:
    async with running(saying(Report((), "one 1\n"), Report((AWAY,), "one 2\n"))) as duties:
        await duties.eventually(lambda: duties.process.metrics == "one 2\n")
        assert duties.condition.waiting == [AWAY]


async def test_one_that_ended_is_started_again(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    async with running(noting(file, saying(Report((), "figures"), then="sys.exit(3)"))) as duties:
        await duties.eventually(lambda: duties.said("exit code 3"))
        assert duties.process.metrics == ""
        await duties.eventually(lambda: len(ids(file)) >= 3)


async def test_one_that_falls_silent_is_ended_and_started_again(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    frozen = noting(file, saying(Report((), ""), then="os.kill(os.getpid(), signal.SIGSTOP)"))
    async with running(frozen, silence_seconds=2.0) as duties:
        await duties.eventually(lambda: duties.said("said nothing"))
        await duties.eventually(lambda: len(ids(file)) >= 2)
        assert not psutil.pid_exists(ids(file)[0])


async def test_one_that_says_something_else_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    async with running(noting(file, "print('hello', flush=True); import time; time.sleep(600)")) as duties:
        await duties.eventually(lambda: duties.said("DecodeError"))
        await duties.eventually(lambda: len(ids(file)) >= 2)
        assert not psutil.pid_exists(ids(file)[0])


async def test_one_that_cannot_be_started_is_tried_again() -> None:
    duties = Duties("", LIMIT_SECONDS)
    duties.process._command = ["/nowhere/at-all"]
    task = asyncio.create_task(duties.process.run())
    await duties.eventually(lambda: duties.said("FileNotFoundError"))
    duties.stop.set()
    await asyncio.wait_for(task, LIMIT_SECONDS)


async def test_one_that_closes_its_output_and_lives_on_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    async with running(noting(file, saying(Report((), ""), then="os.close(1); time.sleep(600)"))) as duties:
        await duties.eventually(lambda: duties.said("did not come to its end"))
        await duties.eventually(lambda: len(ids(file)) >= 2)
        assert not psutil.pid_exists(ids(file)[0])


async def test_of_one_that_is_killed_in_the_middle_of_a_line_its_end_is_told() -> None:
    half = "os.write(1, b'{\"waiting\": ['); os.kill(os.getpid(), signal.SIGKILL)"
    async with running(saying(Report((), ""), then=half)) as duties:
        await duties.eventually(lambda: duties.said("exit code -9"))


async def test_it_is_told_to_stop_and_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "ended"
    ends = f"def end(*_): open({str(file)!r}, 'w').write('well'); sys.exit(0)\nsignal.signal(signal.SIGTERM, end)\n"
    program = f"import signal, sys\n{ends}" + saying(Report((), "up"))
    async with running(program) as duties:
        await duties.eventually(lambda: duties.process.metrics == "up")
    assert file.read_text() == "well"


async def test_whoever_gives_up_waiting_ends_it(tmp_path: Path) -> None:
    """As the grace time of the worker does."""
    file = tmp_path / "ids"
    stubborn = noting(file, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + saying(Report((), "up")))
    duties = Duties(stubborn, LIMIT_SECONDS)
    task = asyncio.create_task(duties.process.run())
    await duties.eventually(lambda: duties.process.metrics == "up")
    duties.stop.set()
    await asyncio.sleep(0.05)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(ids(file)[0])


async def test_reports_say_how_the_duties_are_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    condition = Condition(now=lambda: BEGAN, monotonic=lambda: 0.0)
    condition.waits(Part.RELAY, Awaited.BROKER, "connection refused")
    metrics = DutyMetrics()
    metrics.settlings.inc(3)
    with os.fdopen(reading, "rb") as output, os.fdopen(writing, "wb") as standard_output:
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=standard_output))
        async with reporting(condition, metrics):
            said = msgspec.json.decode(await asyncio.to_thread(output.readline), type=Report)
        await asyncio.sleep(0)  # what is closed is closed by the loop
        assert output.read() == b"", "the end is told"
    assert said.waiting == (AWAY,)
    assert "tierline_worker_settlings_total 3.0" in said.metrics


def test_it_ends_when_its_standard_input_does() -> None:
    program = "from ingest_worker.duty_process import end_with_standard_input as f; f(); import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(LIMIT_SECONDS) == 1
