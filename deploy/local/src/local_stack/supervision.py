"""Keeps what was started running: what ends unasked is started again, unless it keeps ending.

Laws: before the stack is up, an end is a failed start and ends the stack; after that a process may end a few times a
minute and costs nothing but time, because each of them goes on from what is stored.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from local_stack.processes import Child

_MOST_ENDS = 5
_WITHIN_SECONDS = 60.0


class Watched:
    """One process that is meant to run, whatever its id is at the moment."""

    def __init__(self, child: Callable[[], Child], start_again: Callable[[], None] | None) -> None:
        self._child = child
        self._start_again = start_again
        self._ends: deque[float] = deque(maxlen=_MOST_ENDS)

    def check(self, *, up: bool, say: Callable[[str], None]) -> None:
        """Start it again if it has ended; raise ChildDied if that is no use."""
        child = self._child()
        if child.running:
            return
        now = time.monotonic()
        too_often = len(self._ends) == _MOST_ENDS and now - self._ends[0] < _WITHIN_SECONDS
        if not up or self._start_again is None or too_often:
            child.check()
            return
        self._ends.append(now)
        say(f"{child.how_it_ended()}; starting it again …")
        self._start_again()


class Supervision:
    """Everything that is meant to run."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._up = False
        self._watched: list[Watched] = []

    def begin(self) -> None:
        """The stack is up: from now on what ends is started again."""
        self._up = True

    def watch(self, child: Callable[[], Child], *, start_again: Callable[[], None] | None) -> Callable[[], None]:
        """Watch a process; returns what releases it, because its end is wanted."""
        watched = Watched(child, start_again)
        self._watched.append(watched)
        return lambda: self._watched.remove(watched)

    def check(self) -> None:
        """Look after every process once."""
        for watched in list(self._watched):
            watched.check(up=self._up, say=self._say)
