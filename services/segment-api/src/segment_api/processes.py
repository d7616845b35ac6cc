"""Several processes behind one address: one accepts nothing and looks after the others.

Laws: the port is taken once, before any of them starts; one that ends by itself is started again, more slowly each time
it lives only briefly; one that cannot start at all ends them all, with its sentence; whoever is asked to stop lets all
of them answer what is under way; none outlives the one that looks after them (they watch it, see `ended_with`).
"""

import asyncio
import multiprocessing
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, Final

from prometheus_client.multiprocess import mark_process_dead

from segment_api.telemetry import say, warn
from segmentation.errors import SegmentationError

REFUSED: Final = 3
"""The exit code of a process that cannot start as it was asked to."""

_LOOK_SECONDS = 0.5
_SHORT_LIFE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 15.0
_GRACE_SECONDS = 20.0

Serve = Callable[[Any, socket.socket], None]


class Several:
    """Keeps so many processes of one kind running."""

    def __init__(
        self, serve: Serve, settings: object, listener: socket.socket, *, number: int, figures_directory: Path
    ) -> None:
        self._spawn = multiprocessing.get_context("spawn")
        self._serve = serve
        self._settings = settings
        self._listener = listener
        self._number = number
        self._figures_directory = figures_directory
        self._running: dict[SpawnProcess, float] = {}
        """Since when each has run."""
        self._pause = 0.0
        self._start_next = 0.0
        self._stopping = False

    def run(self) -> int:
        """Runs until told to stop; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        code = 0
        while self._running or not self._stopping:
            while not self._stopping and len(self._running) < self._number and time.monotonic() >= self._start_next:
                self._start()
            wait([each.sentinel for each in self._running], timeout=_LOOK_SECONDS)
            for process in [each for each in self._running if not each.is_alive()]:
                lived = time.monotonic() - self._running.pop(process)
                code = max(code, self._ended(process, lived))
        return code

    def _start(self) -> None:
        process = self._spawn.Process(
            target=_child, args=(self._serve, self._settings, self._listener), name="segment-api", daemon=False
        )
        process.start()
        self._running[process] = time.monotonic()
        say("process.started", pid=process.pid)

    def _ended(self, process: SpawnProcess, lived: float) -> int:
        mark_process_dead(process.pid, str(self._figures_directory))  # type: ignore[no-untyped-call]
        if process.exitcode == REFUSED:
            self._stop()
            return 1
        if not self._stopping:
            self._pause = min(2 * self._pause + 0.1, _LONGEST_PAUSE_SECONDS) if lived < _SHORT_LIFE_SECONDS else 0.0
            self._start_next = time.monotonic() + self._pause
            warn("process.died", pid=process.pid, exit_code=process.exitcode, next_in_seconds=round(self._pause, 1))
        return 0

    def _stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        if not self._stopping:
            signal.signal(signal.SIGALRM, self._kill)
            signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)
        self._stopping = True
        for process in self._running:
            process.terminate()

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        """Whoever has not ended by now never will: it is stopped, or hangs."""
        for process in self._running:
            process.kill()


def _child(serve: Serve, settings: object, listener: socket.socket) -> None:
    try:
        serve(settings, listener)
    except SegmentationError as error:
        print(f"segment-api: {error}", file=sys.stderr)  # noqa: T201 - as the command says it
        sys.exit(REFUSED)


def ended_with(stop: Callable[[], None]) -> None:
    """In one of several processes: stops when the one that looks after it is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(parent.sentinel)
        stop()

    loop.add_reader(parent.sentinel, gone)
