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
from collections.abc import AsyncIterator, Sequence
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
_PROVEN_SECONDS = 60.0
"""One that ends sooner each time is started again ever later."""

_END_SECONDS = 5.0
_SILENCE_SECONDS = 30.0
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
        silence_seconds: float = _SILENCE_SECONDS,
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
        self._note_waiting("it starts")

    async def run(self) -> None:
        """Keeps it running until told to stop, and then until it has ended."""
        while not self._stop.is_set():
            try:
                ended = await self._run_once()
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                ended = f"{type(error).__name__}: {error}"
            if not self._stop.is_set():
                self.metrics = ""
                self._note_waiting(f"it ended ({ended}) and is started again")
                telemetry.warn("duties.ended", detail=ended)
                await pause(self._backoff.next(), unless=self._stop)

    def _note_waiting(self, detail: str) -> None:
        for part in DUTIES:
            self._condition.waits(part, Awaited.PROCESS, detail)

    async def _run_once(self) -> str:
        """How it ended."""
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LONGEST_REPORT
        )
        began = asyncio.get_running_loop().time()
        stopping = asyncio.create_task(self._stop_too(process))
        try:
            output = cast("asyncio.StreamReader", process.stdout)
            # Of one that was killed the last line may be half written.
            while (line := await self._next_line(output)).endswith(b"\n"):
                report = msgspec.json.decode(line, type=Report)
                self._condition.hears(report.waiting)
                self.metrics = report.metrics
                if asyncio.get_running_loop().time() - began > _PROVEN_SECONDS:
                    self._backoff.reset()
            if not output.at_eof():
                return "it said nothing any more"
            self._note_waiting("it ends")
            async with asyncio.timeout(_END_SECONDS):
                return f"exit code {await process.wait()}"
        except TimeoutError:
            return "it did not come to its end"
        finally:
            stopping.cancel()
            await _end(process)

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


async def _end(process: asyncio.subprocess.Process) -> None:
    """By SIGTERM, so that what it asks of the database ends too; by SIGKILL where it does not listen."""
    ending = asyncio.create_task(process.wait())
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    # Not by a timeout: inside a task that is cancelled already, older versions of Python do not tell the two apart.
    await asyncio.wait([ending], timeout=_END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await ending


@contextlib.asynccontextmanager
async def reporting(condition: Condition, metrics: DutyMetrics) -> AsyncIterator[None]:
    """Meanwhile the process of the duties says how it is; to one that does not listen it says nothing."""
    # Closed at the very end: whoever listens takes that for the end of the process.
    output, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, sys.stdout.buffer)
    task = asyncio.create_task(_report(output, condition, metrics))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        output.close()


async def _report(output: asyncio.WriteTransport, condition: Condition, metrics: DutyMetrics) -> None:
    while True:
        if not output.get_write_buffer_size():
            waiting = tuple(wait for wait in condition.waiting if wait.part in DUTIES)
            report = Report(waiting, generate_latest(metrics.registry).decode())
            output.write(msgspec.json.encode(report) + b"\n")
        await asyncio.sleep(_REPORT_SECONDS)


def end_with_standard_input() -> None:
    """Ends this process at once when the one that started it is gone."""

    def watch() -> None:
        try:
            # Not through sys.stdin, whose lock would hold up an ordinary end.
            while os.read(0, 1024):
                pass
        finally:
            os._exit(1)

    threading.Thread(target=watch, name="ends-with-standard-input", daemon=True).start()
