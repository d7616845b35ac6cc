"""What is kept of the past: every answer that was another than the one before it.

Laws: whatever differs between two answers about a customer, other than their day and moment, makes an entry; so the
latest entry up to a day is the answer as it stood at that day's end, and the newest entry is the answer that stands.
An entry's `before` is the entry before it: nothing is kept twice.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from msgspec import structs

from segmentation.assessment import Snapshot
from segmentation.fields import CustomerId
from segmentation.overrides import ByHand, Override
from segmentation.tiering import Tier

_ANY_MOMENT: Final = datetime.min.replace(tzinfo=UTC)


class EntryKind(enum.StrEnum):
    """What made an entry."""

    CHANGE = "change"
    """Tier, lifecycle, segment or service level became another, a churn warning began or ended, or the customer was
    heard of for the first time."""
    OVERRIDE_SET = "override_set"
    OVERRIDE_ENDED = "override_ended"
    """By hand."""
    OVERRIDE_EXPIRED = "override_expired"
    REFRESH = "refresh"
    """Only what is decided beside them, or explains it, became another: a facet, an addition, a figure in a reason, a
    version. No part of the history."""
    OUTLOOK = "outlook"
    """Only what the model says became another, as it does by every day that passes. No part of the history; kept
    without the rest, which stands as it did."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A customer's answer from a moment on."""

    kind: EntryKind
    after: Snapshot
    author: str | None = None
    """Who set or ended the override."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A listed entry in its place."""

    sequence: int
    """Of one customer it only grows."""
    entry: Entry
    before: Snapshot | None
    """What stood until then; None for the first."""
    recorded_at: datetime


def entries(previous: Mapping[CustomerId, Snapshot], snapshots: Iterable[Snapshot], by_hand: ByHand) -> list[Entry]:
    """What new snapshots add to the past.

    Args:
        previous: What stood.
        snapshots: What stands now.
        by_hand: Overrides that were set or ended with it.
    """
    added: list[Entry] = []
    for after in snapshots:
        before, order = previous.get(after.customer_id), by_hand.get(after.customer_id)
        if order is not None:
            kind = EntryKind.OVERRIDE_SET if isinstance(order, Override) else EntryKind.OVERRIDE_ENDED
            added.append(Entry(kind, after, order.author, order.reason))
        elif before is None:
            added.append(Entry(EntryKind.CHANGE, after))
        elif before.overridden is not None and after.overridden is None:
            added.append(Entry(EntryKind.OVERRIDE_EXPIRED, after))
        elif _standing(before) != _standing(after):
            added.append(Entry(EntryKind.CHANGE, after))
        elif (told := _told(before)) != (now_told := _told(after)):
            only_outlook = after.outlook is not None and structs.replace(told, outlook=after.outlook) == now_told
            added.append(Entry(EntryKind.OUTLOOK if only_outlook else EntryKind.REFRESH, after))
    return added


def paired(rows: Sequence[tuple[int, Entry, datetime]], limit: int) -> tuple[Sequence[HistoryEntry], int | None]:
    """A page of the history, each entry with what stood before it.

    Args:
        rows: Listed entries of a customer, newest first: one more than the page holds, where there are more.
        limit: How many the page holds.

    Returns:
        The page, and the sequence that the next page begins below; None on the last one.
    """
    page = [
        HistoryEntry(sequence, entry, rows[place + 1][1].after if place + 1 < len(rows) else None, recorded_at)
        for place, (sequence, entry, recorded_at) in enumerate(rows[:limit])
    ]
    return page, page[-1].sequence if len(rows) > limit else None


def _standing(snapshot: Snapshot) -> tuple[Tier, Tier, str, str, str, bool]:
    """What people look at in a history."""
    return (
        snapshot.tier,
        snapshot.history.computed,
        snapshot.lifecycle,
        snapshot.shown_segment,
        snapshot.service_level,
        snapshot.churn_warning,
    )


def _told(snapshot: Snapshot) -> Snapshot:
    """All that an answer says, but for its day and its moment; a field that is added later belongs to it by itself.

    What is ranked by, what counting orders say and what a model expects is how an answer is found: it moves with every
    order.
    """
    return structs.replace(
        snapshot,
        as_of=date.min,
        due_on=date.min,
        value=None,
        updated_at=_ANY_MOMENT,
        override=snapshot.overridden,
        order_traits=None,
        expected_value=None,
    )
