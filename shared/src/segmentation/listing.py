"""Finding customers by what they are: what is asked for, pages, exports, and counts of everyone.

Laws: a filter holds on the answer that is shown, for the current day, never on what was stored for an earlier one;
pages and exports go by customer id in byte order, so whoever stays is met exactly once, whatever moves meanwhile;
counts of everyone add up to everyone.
"""

import enum
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Protocol

from segmentation.answers import Answer
from segmentation.assessment import Snapshot
from segmentation.errors import FilterInvalid
from segmentation.fields import CustomerId
from segmentation.policy import GRADES, Named, Policy
from segmentation.scoring import Model
from segmentation.segments import STAGES
from segmentation.tiering import TIERS
from segmentation.toml_tables import listed
from segmentation.traits import INDUSTRIES, SUBJECT_TYPES
from segmentation.worth import LEVELS, SIZES

UNKNOWN: Final = "unknown"
"""Of industry and subject type: nobody has said."""


class Filter(enum.StrEnum):
    """What customers can be found by; the values are the names of the filters."""

    TIER = "tier"
    """The effective one."""
    SEGMENT = "segment"
    SERVICE_LEVEL = "service_level"
    LIFECYCLE = "lifecycle"
    INDUSTRY = "industry"
    REGION = "region"
    CHANNEL = "channel"
    SUBJECT_TYPE = "subject_type"
    NEED = "need"
    VALUE_LEVEL = "value_level"
    GRADE = "grade"
    SIZE = "size"
    FREQUENCY = "frequency"


CLOSED: Final[Mapping[Filter, Sequence[str]]] = {
    Filter.TIER: TIERS,
    Filter.LIFECYCLE: STAGES,
    Filter.INDUSTRY: INDUSTRIES,
    Filter.SUBJECT_TYPE: SUBJECT_TYPES,
    Filter.VALUE_LEVEL: LEVELS,
    Filter.GRADE: GRADES,
    Filter.SIZE: SIZES,
    Filter.FREQUENCY: LEVELS,
}
"""The values that there are, where they are ours. Those of segment and service level are the policy's."""

MAY_BE_WITHOUT: Final = (Filter.REGION, Filter.CHANNEL, Filter.NEED)
"""What has whatever values producers send, so that no word is left to say that there is none."""

_VALUES: Final[Mapping[Filter, Callable[[Snapshot], Collection[str | None]]]] = {
    Filter.TIER: lambda each: (each.tier,),
    Filter.SEGMENT: lambda each: (each.shown_segment,),
    Filter.SERVICE_LEVEL: lambda each: (each.service_level,),
    Filter.LIFECYCLE: lambda each: (each.lifecycle,),
    Filter.INDUSTRY: lambda each: (each.facets.industry or UNKNOWN,),
    Filter.REGION: lambda each: (each.facets.region,),
    Filter.CHANNEL: lambda each: (each.facets.channel,),
    Filter.SUBJECT_TYPE: lambda each: (each.facets.subject_type or UNKNOWN,),
    Filter.NEED: lambda each: each.facets.needs,
    Filter.VALUE_LEVEL: lambda each: (each.facets.value_level,),
    Filter.GRADE: lambda each: (each.facets.grade,),
    Filter.SIZE: lambda each: (each.facets.size,),
    Filter.FREQUENCY: lambda each: (each.facets.frequency,),
}


def names_of_segments(policy: Policy, model: Model | None) -> Mapping[str, Named]:
    """Every segment that answers can show, by code: the model's, and the policy's for whom that does not know.

    Where both have a code, it is one segment here, under the policy's name.
    """
    return {segment.code: segment for segment in (model.segments if model else ())} | dict(policy.segments)


@dataclass(frozen=True, slots=True)
class Criteria:
    """Whom a listing is about: of each filter any of some values, and all filters together."""

    wanted: Mapping[Filter, frozenset[str]] = field(default_factory=dict)
    without: frozenset[Filter] = frozenset()
    """Of whom these are not known; of MAY_BE_WITHOUT."""

    def hold(self, snapshot: Snapshot) -> bool:
        """Whether they hold for a customer as it stands."""
        return all(not values.isdisjoint(_VALUES[name](snapshot)) for name, values in self.wanted.items()) and all(
            set(_VALUES[name](snapshot)) <= {None} for name in self.without
        )

    def check(self, policy: Policy, model: Model | None = None) -> None:
        """Refuses values that nobody can have.

        Raises:
            FilterInvalid: names the filter, the value, and the values there are.
        """
        allowed = {
            **CLOSED,
            Filter.SEGMENT: tuple(names_of_segments(policy, model)),
            Filter.SERVICE_LEVEL: tuple(policy.service_levels),
        }
        for name, values in self.wanted.items():
            if name in allowed and (wrong := sorted(values.difference(allowed[name]))):
                raise FilterInvalid(name, f"{wrong[0][:100]!r} is none; one of {listed(allowed[name])} is expected")

    def canonical(self) -> str:
        """The same text for the same criteria, and for no others."""
        wanted = [(name.value, sorted(values)) for name, values in sorted(self.wanted.items()) if values]
        return repr((wanted, sorted(name.value for name in self.without)))


@dataclass(frozen=True, slots=True)
class CustomerPage:
    """Some customers for whom the criteria hold, in order of their ids."""

    as_of: date | None
    answers: Sequence[Answer]
    next_after: CustomerId | None
    """The id that the next page begins after; None where there is nobody left.

    A page may be shorter than asked for, or empty, and yet not the last one.
    """


class Breakdown(enum.StrEnum):
    """What a segment can be broken down by."""

    REGION = "region"
    INDUSTRY = "industry"


@dataclass(frozen=True, slots=True)
class SegmentPart:
    """Customers of a segment that have something in common."""

    value: str | None
    """None: of whom it is not known."""
    customers: int


@dataclass(frozen=True, slots=True)
class SegmentParts:
    """A segment broken down: the largest parts, and how much is in the others."""

    parts: Sequence[SegmentPart]
    others: int
    """How many parts are not listed."""
    customers_of_others: int

    @property
    def customers(self) -> int:
        """All of the segment."""
        return sum(part.customers for part in self.parts) + self.customers_of_others


@dataclass(frozen=True, slots=True)
class SegmentCount:
    """How many customers are in a segment."""

    code: str
    customers: int
    broken_down: Mapping[Breakdown, SegmentParts]


@dataclass(frozen=True, slots=True)
class SegmentOverview:
    """Everyone by segment, at one moment."""

    as_of: date | None
    customers: int
    overdue: int
    """Of these, how many are counted as they stood on an earlier day, since too many came due at once."""
    segments: Sequence[SegmentCount]
    """In the model's and the policy's order; with nobody in them, too."""
    policy: Policy
    model: Model | None = None


@dataclass(frozen=True, slots=True)
class RegionCount:
    """The customers of a region."""

    region: str | None
    """None: of whom it is not known."""
    customers: int
    tiers: Mapping[str, int]
    """By effective tier."""
    value: int
    """What those above 0 are ranked by, together."""


@dataclass(frozen=True, slots=True)
class RegionOverview:
    """Everyone by region, at one moment: a page of it, in byte order of the regions; the unknown one last."""

    as_of: date | None
    basis: str
    customers: int
    overdue: int
    """As in `SegmentOverview`."""
    total: int
    """The value of all regions together."""
    regions: Sequence[RegionCount]
    more: bool


class Directory(Protocol):
    """Customers by what they are. All raise StoreUnavailable while the database is out of reach."""

    async def page(self, criteria: Criteria, *, after: CustomerId | None, limit: int, now: datetime) -> CustomerPage:
        """The next customers for whom the criteria hold, after an id.

        Raises:
            FilterInvalid: nobody can have a value that was asked for.
        """

    def everyone(self, criteria: Criteria, *, now: datetime) -> AsyncGenerator[CustomerPage, None]:
        """All customers for whom the criteria hold, in pages, of one moment; close it unless it is read to the end.

        Raises:
            FilterInvalid: nobody can have a value that was asked for.
        """

    async def segments(self, by: Collection[Breakdown], *, parts: int, now: datetime) -> SegmentOverview:
        """How many customers are in each segment; broken down into up to so many parts each."""

    async def regions(self, *, after: str | None, limit: int, now: datetime) -> RegionOverview:
        """The customers of each region, after one."""
