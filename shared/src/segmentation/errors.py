"""Every error the project raises, as a tree by what the caller can do about it.

SegmentationError
├── StartRefused        one sentence for the person who starts the process; nothing to retry
│   ├── SettingInvalid  a setting is wrong, or does not fit the data it is started on
│   ├── PolicyInvalid   the policy file cannot be used; names the row
│   └── ModelInvalid    a model document cannot be used; names the place in it
├── PolicyFrozen        that version of the policy cannot be written; says which can
├── DryRunBusy          one at a time: try again later
├── FilterInvalid       nobody can have what is asked for; names the filter and what it can be
├── RatesInvalid        an exchange-rate file cannot be loaded; names the line
├── ErasuresInvalid     a list of erasures cannot be taken in; says why, and nothing was
├── UpkeepRefused       what an operator asked for would do harm; says why, and nothing was done
├── PartitionLost       another worker owns the partition now: drop it, never retry the batch
├── RejectBudgetExceeded  a partition has to halt within the batch: cut the batch there, record again
├── NotHalted           there is nothing to resume
├── KeyUnknown          there is no such key, or it is no longer good
└── StoreUnavailable    the database cannot be reached or gave up: wait, then try again
    └── NotReady        it is there, but no worker has brought a policy yet

What is wrong with a *message* is no exception but a value, `events.Reject`: a bad message is
ordinary, it is counted and kept, and nobody has to stop for it.
"""

from collections.abc import Collection, Iterable, Mapping


class SegmentationError(Exception):
    """The root of the tree."""


class StartRefused(SegmentationError):
    """The process cannot start as it was asked to."""


class SettingInvalid(StartRefused):
    """A setting is wrong, or differs from what the data was built with."""


class PolicyInvalid(StartRefused):
    """The policy cannot be used as it stands."""


class ModelInvalid(StartRefused):
    """The model cannot be used as it stands."""


class PolicyFrozen(SegmentationError):
    """That version of the policy was in force, is about to be, or is not the next."""


class DryRunBusy(SegmentationError):
    """A dry run is at work already."""


class FilterInvalid(SegmentationError):
    """Customers are asked for by a value that none can have."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


class RatesInvalid(SegmentationError):
    """The exchange rates cannot be loaded as they stand."""


class ErasuresInvalid(SegmentationError):
    """The list of erasures cannot be read, or was made with another key."""


class UpkeepRefused(SegmentationError):
    """What was asked for would lose something that nobody asked to lose."""


class PartitionLost(SegmentationError):
    """The partitions' rows say that somebody else owns them: this worker is a zombie for them."""

    def __init__(self, partitions: Collection[tuple[str, int]]) -> None:
        super().__init__(", ".join(f"{topic}/{number}" for topic, number in sorted(partitions)))
        self.partitions = frozenset(partitions)


class RejectBudgetExceeded(SegmentationError):
    """The batch goes on beyond a message after which one of its partitions has to halt; nothing is recorded."""

    def __init__(self, stops: Iterable[tuple[tuple[str, int], int]]) -> None:
        self.stops: Mapping[tuple[str, int], int] = dict(stops)
        """Of each such partition the first offset that may not be recorded; up to there the batch can be."""
        told = ", ".join(
            f"{topic}/{number} from offset {offset} on" for (topic, number), offset in sorted(self.stops.items())
        )
        super().__init__(told)


class NotHalted(SegmentationError):
    """What was to be resumed does not stand halted."""


class KeyUnknown(SegmentationError):
    """No key of that id is good."""


class StoreUnavailable(SegmentationError):
    """The database is out of reach or refused the transaction; the same call may succeed later."""


class NotReady(StoreUnavailable):
    """The database is there, but nothing is in force yet; says what to start."""
