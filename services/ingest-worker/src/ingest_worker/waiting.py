"""Waiting: it ends at once when the worker is to stop, and grows longer from failure to failure."""

import asyncio
from collections.abc import Callable

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 15.0


async def pause(seconds: float, *, unless: asyncio.Event) -> None:
    """Waits for a time, or until the event is set."""
    try:
        async with asyncio.timeout(seconds):
            await unless.wait()
    except TimeoutError:
        return


class Backoff:
    """How long to wait after one failure after another: twice as long each time, up to a limit.

    Half of it is left to chance, so that workers who failed together do not come back together.
    """

    def __init__(
        self,
        *,
        chance: Callable[[], float],
        first_seconds: float = _FIRST_SECONDS,
        longest_seconds: float = _LONGEST_SECONDS,
    ) -> None:
        """Takes a source of numbers from 0 to 1."""
        self._chance = chance
        self._first = first_seconds
        self._longest = longest_seconds
        self._whole = first_seconds

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        whole, self._whole = self._whole, min(2 * self._whole, self._longest)
        return whole / 2 * (1 + self._chance())

    def reset(self) -> None:
        """Something was done: the next failure is a new one."""
        self._whole = self._first
