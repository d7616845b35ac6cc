"""Processes that are not our children: backends of a server, and what a killed stack has left behind.

Law: found by what only they have (a parent, a working directory, an argument), never by a name alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

_POLL_SECONDS = 0.05
_KILLED_SECONDS = 10


class Stray:
    """One such process."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not, and where nobody reaps orphans it stays one for ever."""
        try:
            return bool(self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def kill(self) -> None:
        """End it at once, if it is there."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()


def kill_tree(pid: int) -> None:
    """End a process and all that it has started, whatever sessions they lead."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        root.suspend()  # it must not start others meanwhile
        offspring = [Stray(process) for process in root.children(recursive=True)]
        root.kill()
        end_all(offspring, grace_seconds=0)


def end_all(strays: Sequence[Stray], *, grace_seconds: float) -> None:
    """See that they end: by themselves within the time given, else by SIGKILL."""
    _await_end(strays, grace_seconds)
    for stray in strays:
        if stray.alive:
            stray.kill()
    _await_end(strays, _KILLED_SECONDS)


def working_in(directory: Path, *, name: str) -> list[Stray]:
    """The processes of that name whose working directory this is."""
    place = directory.resolve()
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == name and Path(process.cwd()) == place:
                found.append(Stray(process))
    return found


def started_with(argument: str) -> list[Stray]:
    """The processes that have it on their command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if argument in process.cmdline():
                found.append(Stray(process))
    return found


def _await_end(strays: Sequence[Stray], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(stray.alive for stray in strays) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
