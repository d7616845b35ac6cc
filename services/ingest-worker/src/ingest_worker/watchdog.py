"""Notices a consumer that is alive and silent: the broker has messages, and they do not come.

Pure: what was polled, where the client stands and where partitions end come in as arguments, with the time.

Laws: nothing but time in which the client could have brought something counts. A partition is silent when it has
stood still behind its end for the whole limit, and polls went on bringing nothing of it although they had room; so
neither one that waits its turn behind others nor one whose batch takes long is silent. Whoever asks for the ends
asks at the isolation level of the consumer: what an open transaction holds back is no end.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from segmentation.outcomes import Partition

SILENCE_SECONDS = 30.0


class Watchdog:
    """Watches one worker's partitions, from session to session."""

    def __init__(self, *, limit_seconds: float = SILENCE_SECONDS) -> None:
        self._limit = limit_seconds
        self._behind: dict[Partition, tuple[int, float]] = {}
        self._empty_at: dict[Partition, float] = {}
        self._silences: Counter[Partition] = Counter()

    @property
    def rebuilds_in_vain(self) -> int:
        """How often in a row one partition was found silent without bringing anything in between."""
        return max(self._silences.values(), default=0)

    def begin(self, claimed: Iterable[Partition]) -> None:
        """Partitions were claimed: what was seen before counts no more, but for what was in vain."""
        kept = set(claimed)
        self._behind.clear()
        self._empty_at.clear()
        self._silences = Counter({partition: count for partition, count in self._silences.items() if partition in kept})

    def polled(self, watched: Iterable[Partition], brought: Iterable[Partition], *, had_room: bool, at: float) -> None:
        """A poll has come back; with room it would have brought whatever the client had."""
        came = set(brought)
        for partition in came:
            self._silences.pop(partition, None)
        if had_room:
            self._empty_at |= dict.fromkeys(set(watched) - came, at)

    def look(self, positions: Mapping[Partition, int], ends: Mapping[Partition, int], *, at: float) -> list[Partition]:
        """The partitions that are silent, given where the client stands and where the broker says they end."""
        behind: dict[Partition, tuple[int, float]] = {}
        for partition, position in positions.items():
            if ends.get(partition, 0) > position:
                before = self._behind.get(partition)
                behind[partition] = before if before is not None and before[0] == position else (position, at)
        self._behind = behind
        silent = [
            partition
            for partition, (_, since) in behind.items()
            if self._empty_at.get(partition, since) - since >= self._limit
        ]
        self._silences.update(silent)
        return sorted(silent)
