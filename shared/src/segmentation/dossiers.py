"""The ports behind a customer's dossier: why it stands where it does, where it stood, what people decided for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from segmentation.access import ANYONE, Actor
from segmentation.answers import Answer, Reader
from segmentation.chronicle import HistoryEntry
from segmentation.fields import CustomerId
from segmentation.metrics import Metrics
from segmentation.overrides import Ending, OverrideRefusal, WantedOverride
from segmentation.policy import Policy
from segmentation.risk import Outlooks
from segmentation.scoring import Model
from segmentation.tiering import CutOffs
from segmentation.traits import Description


@dataclass(frozen=True, slots=True)
class Evidence:
    """An answer, with all that it can be explained from; of one moment."""

    answer: Answer
    metrics: Metrics
    """Of this customer alone: the columns that decisions need."""
    cutoffs: CutOffs
    description: Description
    outlooks: Outlooks | None = None
    """Of this customer alone, by the model in force."""


@dataclass(frozen=True, slots=True)
class History:
    """A page of a customer's history, newest first."""

    as_of: date
    entries: Sequence[HistoryEntry]
    policies: Mapping[int, Policy]
    models: Mapping[int, Model | None]
    """Both by the versions that the entries name."""
    next_before: int | None
    """The sequence that the next page begins below; None on the last one."""


class Dossiers(Reader, Protocol):
    """A read side that also knows the past, and the reasons."""

    async def recorded(self, customer_id: CustomerId, day: date) -> Answer | None:
        """The answer as it stood at the end of a past day; None before the first record."""

    async def history(
        self, customer_id: CustomerId, *, before: int | None, limit: int, now: datetime
    ) -> History | None:
        """What became of a customer, below a sequence where one is given; None for an unknown customer."""

    async def evidence(self, customer_id: CustomerId, *, now: datetime) -> Evidence | None:
        """What the customer's current answer can be explained from; None for an unknown customer."""


class Overrides(Protocol):
    """What people decide over the rules. All raise StoreUnavailable while the database is away."""

    async def set_overrides(
        self, wanted: Mapping[CustomerId, WantedOverride], *, now: datetime, by: Actor = ANYONE
    ) -> Mapping[CustomerId, OverrideRefusal | None]:
        """Sets an override for each customer, in place of the one there is, and assesses it anew.

        What cannot be set is refused by itself and the others are set, all in one transaction with the audit trail.
        """

    async def end_override(self, customer_id: CustomerId, ending: Ending, *, now: datetime, by: Actor = ANYONE) -> bool:
        """Ends the customer's override and assesses it anew; does nothing where none counts.

        False for an unknown customer.
        """
