"""The reject budget against the obvious: a list of all outcomes, looked at anew after each message."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from segmentation.budget import RecentOutcomes, RejectBudget

budgets = st.builds(
    RejectBudget,
    consecutive=st.integers(1, 12),
    window=st.integers(1, 20),
    share=st.fractions(0, 1, max_denominator=20),
)
streams = st.one_of(
    st.lists(st.booleans(), max_size=120),
    # mostly good, or mostly bad
    st.lists(st.sampled_from([False] * 5 + [True]), max_size=120),
    st.lists(st.sampled_from([True] * 5 + [False]), max_size=120),
)


def exceeded_after(rejected: list[bool], budget: RejectBudget) -> int | None:
    """By the words of the definition."""
    for count in range(1, len(rejected) + 1):
        seen = rejected[:count]
        in_a_row = seen[-budget.consecutive :]
        if len(in_a_row) == budget.consecutive and all(in_a_row):
            return count - 1
        window = seen[-budget.window :]
        if len(window) == budget.window and Fraction(sum(window), budget.window) > budget.share:
            return count - 1
    return None


@given(streams, budgets)
def test_the_budget_is_exceeded_where_a_list_of_all_outcomes_says(rejected: list[bool], budget: RejectBudget) -> None:
    charge = budget.charge(RecentOutcomes(), rejected)
    assert (charge.breach and charge.breach.index) == exceeded_after(rejected, budget)


@given(streams, budgets, st.lists(st.integers(1, 30), min_size=120, max_size=120))
def test_where_it_is_exceeded_does_not_depend_on_how_messages_are_cut_into_batches(
    rejected: list[bool], budget: RejectBudget, sizes: list[int]
) -> None:
    """And what is remembered is stored between batches."""
    whole = budget.charge(RecentOutcomes(), rejected)
    recent, done = RecentOutcomes(), 0
    for size in sizes:
        charge = budget.charge(recent, rejected[done : done + size])
        recent = RecentOutcomes.from_bytes(charge.recent.messages, charge.recent.to_bytes(), charge.recent.run)
        if charge.breach is not None:
            assert whole.breach is not None
            assert (done + charge.breach.index, charge.breach.sentence) == (whole.breach.index, whole.breach.sentence)
            break
        done += size
    else:
        assert whole.breach is None
    assert recent == whole.recent


@given(streams, budgets)
def test_the_rejects_of_a_breach_are_the_last_ones(rejected: list[bool], budget: RejectBudget) -> None:
    breach = budget.charge(RecentOutcomes(), rejected).breach
    if breach is not None:
        seen = rejected[: breach.index + 1]
        assert 1 <= breach.rejects <= sum(seen)
        assert f"{breach.rejects} " in breach.sentence
