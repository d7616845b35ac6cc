"""Every error the project raises, as a tree by what the caller can do about it.

SegmentationError
├── StartRefused        one sentence for the person who starts the process; nothing to retry
│   ├── SettingInvalid  a setting is wrong, or does not fit the data it is started on
│   └── PolicyInvalid   the policy file cannot be used; names the row
├── RatesInvalid        an exchange-rate file cannot be loaded; names the line
├── PartitionLost       another worker owns the partition now: drop it, never retry the batch
└── StoreUnavailable    the database cannot be reached or gave up: wait, then try again
    └── NotReady        it is there, but no worker has brought a policy yet

What is wrong with a *message* is no exception but a value, `events.Reject`: a bad message is
ordinary, it is counted and kept, and nobody has to stop for it.
"""

from collections.abc import Collection


class SegmentationError(Exception):
    """The root of the tree."""


class StartRefused(SegmentationError):
    """The process cannot start as it was asked to."""


class SettingInvalid(StartRefused):
    """A setting is wrong, or differs from what the data was built with."""


class PolicyInvalid(StartRefused):
    """The policy cannot be used as it stands."""


class RatesInvalid(SegmentationError):
    """The exchange rates cannot be loaded as they stand."""


class PartitionLost(SegmentationError):
    """The partitions' rows say that somebody else owns them: this worker is a zombie for them."""

    def __init__(self, partitions: Collection[tuple[str, int]]) -> None:
        super().__init__(", ".join(f"{topic}/{number}" for topic, number in sorted(partitions)))
        self.partitions = frozenset(partitions)


class StoreUnavailable(SegmentationError):
    """The database is out of reach or refused the transaction; the same call may succeed later."""


class NotReady(StoreUnavailable):
    """The database is there, but nothing is in force yet; says what to start."""
