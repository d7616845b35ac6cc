"""Child processes of the local stack: started with a log file, watched, and never left behind.

Laws: a child has a session of its own, so that Ctrl-C in the terminal reaches the stack alone, which stops its
children in order. No child outlives the stack, not even one killed by SIGKILL (on Linux the kernel sees to it).
Nothing here reads the terminal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from local_stack.failures import ChildDied, DiskFull, Interrupted, StackFailed

_POLL_SECONDS = 0.05
_FULL_BYTES = 1_000_000
_ERROR = re.compile(r"PANIC|FATAL|ERROR|Error|Exception")
_TRACE = re.compile(r"\s*(at |File \"|\^+|\.\.\. \d+ more)")
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

# Linux sends the death signal when the *thread* that started the child ends, so all children are started by one thread
# that lives as long as the process does; else a child started from a short-lived thread would die with that.
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="child-starter")


@dataclass(frozen=True, slots=True)
class Identity:
    """The user a child runs as; None everywhere means the one of this process."""

    uid: int | None = None
    gid: int | None = None
    #: a command that changes the user itself and then runs the rest of its arguments
    prefix: tuple[str, ...] = ()


OURSELVES = Identity()


class Child:
    """One running child process and its log."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, log_start: int) -> None:
        self.name = name
        self.log = log
        self._log_start = log_start
        self._process = process
        self._gone = False

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        identity: Identity = OURSELVES,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> Child:
        """Start the command with its output appended to the log; it gets the death signal when this process dies.

        By default one that needs no cooperation: when everything dies at once, a service may wait for another for ever.
        """
        with log.open("ab") as output:
            log_start = output.seek(0, os.SEEK_END)
            process = _STARTER.submit(
                subprocess.Popen,
                [*identity.prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_dies_with_parent(death_signal),
                user=None if identity.prefix else identity.uid,
                group=None if identity.prefix else identity.gid,
                extra_groups=None if identity.prefix or identity.uid is None else [],
            ).result()
        return cls(name, process, log, log_start)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """What it ended with, None while it runs."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def last_lines(self) -> str:
        """The end of what it has logged."""
        return last_lines(self.log, since=self._log_start)

    def failure(self, what: str) -> StackFailed:
        """What to raise: what happened, and why by its log."""
        return failure(self.log, what, since=self._log_start)

    def check(self) -> None:
        """Raise ChildDied, with the end of its log, if it has ended."""
        if self.running:
            return
        how = self.how_it_ended()
        why = self.failure(how)
        if isinstance(why, DiskFull):
            raise why
        raise ChildDied(f"{how}; the end of its log {self.log}:\n{self.last_lines()}")

    def how_it_ended(self) -> str:
        """Its name and what ended it, once it has ended."""
        code = self.exit_code or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}"

    def stop(self, *, seconds: float, by: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop, and kill it when it has not after the given time; idempotent."""
        if self.running:
            self._process.send_signal(by)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it and its session at once; idempotent."""
        if self._gone:
            return  # its id may belong to somebody else by now
        self._gone = True
        # the group is the child's own (its id is the child's), so this reaches what it left behind, and nobody else
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def run(
    command: Sequence[str],
    *,
    name: str,
    log: Path,
    stopping: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    identity: Identity = OURSELVES,
) -> int:
    """Run a command to its end, with its output in the log; its exit code."""
    child = Child.start(name, command, log=log, environment=environment, cwd=cwd, identity=identity)
    try:
        while child.running:
            pause(_POLL_SECONDS, stopping)
        return child.exit_code or 0
    finally:
        child.kill()


def pause(seconds: float, stopping: threading.Event | None = None) -> None:
    """Sleep; raise Interrupted as soon as the stack is asked to stop."""
    if stopping is None:
        time.sleep(seconds)
    elif stopping.wait(seconds):
        raise Interrupted


def wait_until(
    ready: Callable[[], bool],
    *,
    seconds: float,
    otherwise: Callable[[], StackFailed],
    check: Callable[[], None],
    stopping: threading.Event | None = None,
) -> None:
    """Wait for it; `check` raises when waiting has become pointless, `otherwise` what to raise when the time is up."""
    deadline = time.monotonic() + seconds
    while not ready():
        check()
        if time.monotonic() > deadline:
            raise otherwise()
        pause(_POLL_SECONDS, stopping)


def last_lines(log: Path, count: int = 15, *, since: int = 0) -> str:
    """The end of what a log file holds after the given position, indented."""
    try:
        with log.open("rb") as lines:
            lines.seek(max(since, log.stat().st_size - 16_384))
            text = lines.read().decode("utf-8", "replace")
    except OSError:
        return "  (no log)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-count:]) or "  (empty)"


def telling_line(log_text: str) -> str:
    r"""The line of a log that says most about a failure: the last that calls itself an error, else the last.

    >>> telling_line("LOG: starting\nFATAL: no such role\nLOG: shut down\n  at Main.java:3")
    'FATAL: no such role'
    """
    lines = [line.strip() for line in log_text.splitlines() if line.strip() and not _TRACE.match(line)]
    errors = [line for line in lines if _ERROR.search(line)]
    return (errors or lines or ["it says nothing"])[-1]


def failure(log: Path, what: str, *, since: int = 0) -> StackFailed:
    """What to raise: what happened, and why by the log; or that the disk is full, whoever has met that."""
    end_of_log = last_lines(log, 40, since=since)
    # a full disk has no room for the complaint either
    if "No space left on device" in end_of_log or shutil.disk_usage(log.parent).free < _FULL_BYTES:
        place = log.parent
        return DiskFull(f"The disk that holds {place} is full: free some space there, or choose another --data-dir.")
    return StackFailed(f"{what} ({telling_line(end_of_log)}); its log is {log}")


def _dies_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """What the child does between fork and exec; only Linux has it."""
    if _LIBC is None:
        return None
    libc, parent = _LIBC, os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # a parent that died before the call above sends no signal any more
        if os.getppid() != parent:
            os._exit(1)

    return prepare
