"""How many rejects a partition may have before it halts: a bad deploy must stop the worker, not fill the quarantine.

Laws: only `rejected` counts against a budget; outcomes are folded in order of their offsets, one at a time, so the
message after which the budget is exceeded does not depend on how messages are cut into batches; nothing is judged
by its share before a whole window of messages was seen since the start or the last resume.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from segmentation.errors import RejectBudgetExceeded
from segmentation.outcomes import Partition, Reading, Settled


@dataclass(frozen=True, slots=True)
class RecentOutcomes:
    """What a partition's budget remembers of its last messages; empty at the start and after a resume."""

    messages: int = 0
    """How many are remembered, at most a window."""
    bits: int = 0
    """One for each of them, set where it was rejected; the latest is the lowest."""
    run: int = 0
    """How many rejected ones came last, in a row; it may be longer than the window."""

    def to_bytes(self) -> bytes:
        """The bits as they are stored."""
        return self.bits.to_bytes((self.messages + 7) // 8, "big")

    @classmethod
    def from_bytes(cls, messages: int, stored: bytes, run: int) -> "RecentOutcomes":
        """As they were stored."""
        return cls(messages, int.from_bytes(stored, "big"), run)


@dataclass(frozen=True, slots=True)
class Breach:
    """The message after which a budget is exceeded."""

    index: int
    """Its place among the messages folded."""
    rejects: int
    """How many rejects it took: the last ones of the partition."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Charge:
    """What messages did to the budget of a partition."""

    recent: RecentOutcomes
    """After the last message, or after the one that exceeded the budget."""
    breach: Breach | None


@dataclass(frozen=True, slots=True)
class RejectBudget:
    """How many of a partition's messages may be rejected.

    >>> RejectBudget(consecutive=2).charge(RecentOutcomes(), [True, False, True, True]).breach.index
    3
    """

    consecutive: int = 500
    """So many rejects in a row are too many."""
    window: int = 1_000
    share: Fraction = Fraction(1, 2)
    """More rejects than this part of a window are too many."""

    def charge(self, recent: RecentOutcomes, rejected: Sequence[bool]) -> Charge:
        """Folds messages, in order of their offsets, up to the one that exceeds the budget.

        Args:
            recent: What is remembered; of a longer window than today's only the last part counts.
            rejected: Of each message, whether it was.
        """
        whole, allowed = (1 << self.window) - 1, int(self.share * self.window)
        messages, bits, run = min(recent.messages, self.window), recent.bits & whole, recent.run
        rejects = bits.bit_count()
        if rejects <= allowed and not any(rejected):
            # Nothing can be exceeded: the usual case, in one step.
            count = len(rejected)
            return Charge(
                RecentOutcomes(
                    min(messages + count, self.window),
                    (bits << count) & whole if count < self.window else 0,
                    0 if count else run,
                ),
                None,
            )
        for index, is_rejected in enumerate(rejected):
            if messages == self.window:
                rejects -= bits >> (self.window - 1)
            messages = min(messages + 1, self.window)
            bits = (bits << 1 | is_rejected) & whole
            rejects += is_rejected
            run = run + 1 if is_rejected else 0
            sentence = None
            if run >= self.consecutive:
                sentence = f"{run} messages in a row were rejected; {self.consecutive} are too many"
            elif messages == self.window and rejects > allowed:
                sentence = (
                    f"{rejects} of the last {self.window} messages were rejected; more than {allowed} are too many"
                )
            if sentence is not None:
                counted = run if run >= self.consecutive else rejects
                return Charge(RecentOutcomes(messages, bits, run), Breach(index, counted, sentence))
        return Charge(RecentOutcomes(messages, bits, run), None)


DEFAULT_BUDGET: Final = RejectBudget()


def charge_batch(
    readings: Iterable[Reading],
    settled: Settled,
    *,
    recent: Mapping[Partition, RecentOutcomes | None],
    budget: RejectBudget,
) -> dict[Partition, Charge]:
    """What a batch does to the budgets of its partitions.

    Args:
        readings: The whole batch, of each partition in order of offsets.
        settled: Its outcomes.
        recent: What each partition of the batch remembers; None for one that stands halted.
        budget: Of each of them.

    Raises:
        RejectBudgetExceeded: the batch goes on beyond the message after which a partition is to halt.
    """
    offsets: dict[Partition, list[int]] = {partition: [] for partition in recent}
    for reading in readings:
        offsets[reading.delivery.partition].append(reading.delivery.offset)
    rejected: dict[Partition, set[int]] = {}
    for delivery, _ in settled.rejects:
        rejected.setdefault(delivery.partition, set()).add(delivery.offset)
    charges: dict[Partition, Charge] = {}
    stops: dict[Partition, int] = {}
    for partition, remembered in recent.items():
        there = offsets[partition]
        if remembered is None:
            if there:
                stops[partition] = there[0]
            continue
        theirs = rejected.get(partition)
        charge = budget.charge(remembered, [offset in theirs for offset in there] if theirs else [False] * len(there))
        if charge.breach is not None and there[charge.breach.index] != there[-1]:
            stops[partition] = there[charge.breach.index + 1]
        charges[partition] = charge
    if stops:
        raise RejectBudgetExceeded(stops.items())
    return charges


def commonest(reasons: Iterable[str]) -> dict[str, int]:
    """Reasons with how often each was given, the most frequent first."""
    counted = Counter(reasons)
    return dict(sorted(counted.items(), key=lambda each: (-each[1], each[0])))
