"""The process of the duties: started by the one that reads, listened to, and started again.

Both ends of it are here. Laws: what the duties know is in the database, so their process may die at any moment; it says
twice a second how it is, and one that says nothing any more is ended; it never outlives the one that started it,
whatever that dies of, because it ends with its standard input.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from typing import cast

import msgspec
from prometheus_client import generate_latest

from ingest_worker import telemetry
from ingest_worker.condition import DUTIES, Awaited, Condition, Wait
from ingest_worker.telemetry import DutyMetrics
from ingest_worker.waiting import Backoff, pause

COMMAND = "duties"
"""Of `ingest-worker`, for this process alone."""

_REPORT_SECONDS = 0.5
SILENCE_SECONDS = 30.0
_LONGEST_REPORT = 1024 * 1024


class Report(msgspec.Struct, frozen=True):
    """How the duties are: a line on the standard output of their process."""

    waiting: tuple[Wait, ...]
    metrics: str
    """All their figures, as Prometheus reads them."""


class DutyProcess:
    """The other process, as the one that reads sees it."""

    def __init__(
        self,
        *,
        stop: asyncio.Event,
        condition: Condition,
        backoff: Backoff,
        silence_seconds: float = SILENCE_SECONDS,
        command: Sequence[str] = (sys.executable, "-P", "-m", "ingest_worker", COMMAND),
    ) -> None:
        """Takes a command whose process is told by SIGTERM to stop; it has the settings of this one."""
        self.metrics = ""
        """What it last said of its figures."""
        self._stop = stop
        self._condition = condition
        self._backoff = backoff
        self._silence_seconds = silence_seconds
        self._command = command
        self._wait("it starts")

    async def run(self) -> None:
        """Keeps it running until told to stop, and then until it has ended."""
        while not self._stop.is_set():
            try:
                ended = await self._run_once()
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                ended = f"{type(error).__name__}: {error}"
            if not self._stop.is_set():
                self.metrics = ""
                self._wait(f"it ended ({ended}) and is started again")
                telemetry.warn("duties.ended", detail=ended)
                await pause(self._backoff.next(), unless=self._stop)

    def _wait(self, detail: str) -> None:
        for part in DUTIES:
            self._condition.waits(part, Awaited.PROCESS, detail)

    async def _run_once(self) -> str:
        """How it ended."""
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LONGEST_REPORT
        )
        stopping = asyncio.create_task(self._stop_too(process))
        try:
            output = cast("asyncio.StreamReader", process.stdout)
            while line := await self._next_line(output):
                report = msgspec.json.decode(line, type=Report)
                self._condition.hears(report.waiting)
                self.metrics = report.metrics
                self._backoff.reset()
            if not output.at_eof():
                return "it said nothing any more"
            return f"exit code {await process.wait()}"
        finally:
            stopping.cancel()
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _stop_too(self, process: asyncio.subprocess.Process) -> None:
        await self._stop.wait()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()

    async def _next_line(self, output: asyncio.StreamReader) -> bytes:
        """Empty when there is none any more, or none for too long."""
        # Twice half of it: after a sleep of both of them time is up before anything was read.
        for _ in range(2):
            try:
                async with asyncio.timeout(self._silence_seconds / 2):
                    return await output.readline()
            except TimeoutError:
                continue
        return b""


async def report(condition: Condition, metrics: DutyMetrics, *, stop: asyncio.Event) -> None:
    """Has the process of the duties say how it is until told to stop; to one that does not listen it says nothing."""
    loop = asyncio.get_running_loop()
    output, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout.buffer)
    while not stop.is_set():
        if not output.get_write_buffer_size():
            waiting = tuple(wait for wait in condition.waiting if wait.part in DUTIES)
            said = Report(waiting, generate_latest(metrics.registry).decode())
            output.write(msgspec.json.encode(said) + b"\n")
        await pause(_REPORT_SECONDS, unless=stop)


def end_with_standard_input() -> None:
    """Ends this process at once when the one that started it is gone."""

    def watch() -> None:
        # Not through sys.stdin, whose lock would hold up an ordinary end.
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="ends-with-standard-input", daemon=True).start()
