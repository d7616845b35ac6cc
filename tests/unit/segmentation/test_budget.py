"""The reject budget of a partition: when it is exceeded, and what it remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest

from segmentation.budget import DEFAULT_BUDGET, Charge, RecentOutcomes, RejectBudget, charge_batch, commonest
from segmentation.errors import RejectBudgetExceeded
from segmentation.events import Reject, RejectReason
from segmentation.outcomes import Delivery, Partition, Reading, Settled

BAD, GOOD = True, False
ONE, OTHER = Partition("logistics.orders", 0), Partition("logistics.orders", 1)


def charged(rejected: Sequence[bool], budget: RejectBudget = DEFAULT_BUDGET) -> Charge:
    return budget.charge(RecentOutcomes(), rejected)


@pytest.mark.parametrize(
    ("rejected", "index", "sentence"),
    [
        ([BAD] * 600, 499, "500 messages in a row were rejected; 500 are too many"),
        ([GOOD] * 3_000 + [BAD] * 600, 3_499, "500 messages in a row were rejected; 500 are too many"),
        (
            [BAD, BAD, GOOD] * 1_000,
            999,
            "667 of the last 1000 messages were rejected; more than 500 are too many",
        ),
        (
            [GOOD] * 1_000 + [BAD, BAD, GOOD] * 1_000,
            # one message in three is good, so it takes 751 messages for 501 rejects
            1_750,
            "501 of the last 1000 messages were rejected; more than 500 are too many",
        ),
    ],
    ids=["a row", "a row after good ones", "a first window", "a later window"],
)
def test_by_default_500_in_a_row_or_more_than_half_of_1000_are_too_many(
    rejected: Sequence[bool], index: int, sentence: str
) -> None:
    breach = charged(rejected).breach
    assert breach is not None
    assert (breach.index, breach.sentence) == (index, sentence)


@pytest.mark.parametrize(
    "rejected",
    [
        [],
        [GOOD] * 5_000,
        [GOOD, BAD] * 5_000,
        ([BAD] * 499 + [GOOD] * 501) * 3,
        [BAD, BAD, GOOD] * 333,
    ],
    ids=["nothing", "none", "exactly half", "499 in a row", "most of 999"],
)
def test_what_stays_within_the_budget_halts_nothing(rejected: Sequence[bool]) -> None:
    """Exactly half is not more than half, and fewer than a window are not judged by their share."""
    assert charged(rejected).breach is None


def test_a_good_message_can_complete_the_window_that_is_judged() -> None:
    breach = charged([BAD, BAD, GOOD], RejectBudget(consecutive=9, window=3)).breach
    assert breach is not None
    assert (breach.index, breach.rejects) == (2, 2)


def test_shares_are_exact() -> None:
    """0.1 of 10 is one reject and not a little more."""
    budget = RejectBudget(consecutive=9, window=10, share=Fraction("0.1"))
    assert charged([BAD] + [GOOD] * 20, budget).breach is None
    assert charged([BAD] + [GOOD] * 8 + [BAD], budget).breach is not None


def test_a_share_of_1_never_halts() -> None:
    assert charged([BAD] * 50, RejectBudget(consecutive=51, window=10, share=Fraction(1))).breach is None


def test_what_is_remembered_survives_being_stored() -> None:
    recent = charged(([BAD] * 7 + [GOOD]) * 40, RejectBudget(window=100, share=Fraction(1))).recent
    assert (recent.messages, len(recent.to_bytes())) == (100, 13)
    assert RecentOutcomes.from_bytes(recent.messages, recent.to_bytes(), recent.run) == recent
    assert RecentOutcomes.from_bytes(0, RecentOutcomes().to_bytes(), 0) == RecentOutcomes()


def test_a_window_made_shorter_looks_at_the_latest_only() -> None:
    """Settings may change between two starts."""
    recent = charged([BAD] * 60 + [GOOD] * 40, RejectBudget(window=100, share=Fraction(1))).recent
    shorter = RejectBudget(window=50).charge(recent, [GOOD])
    assert shorter == Charge(RecentOutcomes(50, ((1 << 10) - 1) << 41 & ((1 << 50) - 1), 0), None)


def test_a_window_made_longer_waits_for_the_messages_that_it_wants() -> None:
    recent = charged([BAD] * 10, RejectBudget(consecutive=99, window=10, share=Fraction(1))).recent
    longer = RejectBudget(consecutive=99, window=20)
    assert longer.charge(recent, [BAD] * 9).breach is None
    assert longer.charge(recent, [BAD] * 10).breach is not None


def test_the_commonest_reasons_come_first() -> None:
    assert list(commonest(["schema", "future", "empty", "future"]).items()) == [
        ("future", 2),
        ("empty", 1),
        ("schema", 1),
    ]


# --- a batch --------------------------------------------------------------------------------------------------------

_REJECT = Reject(RejectReason.EMPTY, "The message is empty.")


def outcome(
    rejected: Mapping[Partition, Mapping[int, bool]], **recent: RecentOutcomes | None
) -> dict[Partition, Charge]:
    deliveries = [Delivery(partition, offset, None) for partition, there in rejected.items() for offset in there]
    settled = Settled(
        rejects=[(each, _REJECT) for each in deliveries if rejected[each.partition][each.offset]],
    )
    return charge_batch(
        [Reading(each, _REJECT) for each in deliveries],
        settled,
        recent={
            partition: recent.get(name, RecentOutcomes())
            for name, partition in (("one", ONE), ("other", OTHER))
            if partition in rejected
        },
        budget=RejectBudget(consecutive=3),
    )


def test_each_partition_has_a_budget_of_its_own() -> None:
    """The other's rejects do not count, and offsets may have gaps."""
    charges = outcome({ONE: {5: BAD, 9: BAD}, OTHER: {0: GOOD, 1: BAD, 2: BAD, 7: BAD}})
    assert charges[ONE].breach is None
    assert charges[ONE].recent.run == 2
    assert charges[OTHER].breach is not None


def test_a_batch_that_goes_on_beyond_the_breach_is_to_be_cut_at_the_next_message() -> None:
    with pytest.raises(RejectBudgetExceeded) as exceeded:
        outcome({ONE: {5: BAD, 6: BAD, 9: BAD, 12: GOOD}, OTHER: {0: BAD, 1: BAD, 2: BAD, 3: BAD}})
    assert exceeded.value.stops == {ONE: 12, OTHER: 3}
    assert str(exceeded.value) == "logistics.orders/0 from offset 12 on, logistics.orders/1 from offset 3 on"


def test_nothing_of_a_halted_partition_is_taken() -> None:
    with pytest.raises(RejectBudgetExceeded) as exceeded:
        outcome({ONE: {5: GOOD, 6: GOOD}, OTHER: {0: GOOD}}, one=None)
    assert exceeded.value.stops == {ONE: 5}
    assert outcome({ONE: {}}, one=None) == {}
