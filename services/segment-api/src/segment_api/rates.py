"""How fast each caller may be: token buckets, in this process alone, in bounded memory.

Laws: whoever keeps below the rate is never refused; memory holds at most so many callers, and who was silent longest
is forgotten first, which is to begin with a full bucket again.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST_CALLERS: Final = 10_000


class Buckets:
    """A bucket for each caller, which fills at a rate and holds so much at most."""

    def __init__(self, monotonic: Callable[[], float], *, most: int = MOST_CALLERS) -> None:
        self._monotonic = monotonic
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Caller -> what its bucket held, and when that was."""

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, caller: str, *, rate: float, burst: float) -> float:
        """Seconds until the caller's bucket holds one; 0 where it does now. Takes nothing."""
        level = self._level(caller, rate, burst)
        return 0.0 if level >= 1 else (1 - level) / rate

    def take(self, caller: str, *, rate: float, burst: float) -> float:
        """Takes one from the caller's bucket and returns 0; or takes nothing and returns the seconds to wait."""
        level = self._level(caller, rate, burst)
        if level < 1:
            return (1 - level) / rate
        self._levels[caller] = (level - 1, self._monotonic())
        self._levels.move_to_end(caller)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return 0.0

    def _level(self, caller: str, rate: float, burst: float) -> float:
        level, at = self._levels.get(caller, (burst, 0.0))
        return min(burst, level + (self._monotonic() - at) * rate)
