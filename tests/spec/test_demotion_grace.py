"""A promotion counts at once, a demotion after its grace

The effective tier is, with A > B > C > unrated, the best of the computed tier and of those that the last
`demotion_grace_days` days closed with.
When `as_of` moves on from a day, the computed tier then standing closes it, and every day jumped over.
What happens and is undone within one day closes nothing.
With a grace of 0 days the effective tier is the computed one.
"""

from datetime import date

from tests.spec.tables import rows

from segmentation.tiering import Tier, TierHistory


def day_by_day(table: str, *, grace: int) -> None:
    """Columns: as_of, the tier computed then (where it is computed anew), the effective tier, when it will fall."""
    history = TierHistory()
    for row in rows(table):
        as_of = date.fromisoformat(row["as_of"])
        for tier in row["computed"].split():
            history = history.moved(Tier(tier), as_of)
        effective, falls_on = history.effective(as_of, grace)
        said = (effective.value, falls_on.isoformat() if falls_on else "")
        assert said == (row["effective"], row["falls_on"]), f"as of {as_of}"


def test_a_demotion_takes_effect_after_fourteen_days():
    """The last day that closed with A is 10 March; the 14 days from the 11th on still look back at it."""
    day_by_day(
        """
        as_of      | computed | effective | falls_on
        2026-03-01 | A        | A         |
        2026-03-10 |          | A         |
        2026-03-11 | B        | A         | 2026-03-25
        2026-03-12 |          | A         | 2026-03-25
        2026-03-24 |          | A         | 2026-03-25
        2026-03-25 |          | B         |
        """,
        grace=14,
    )


def test_a_promotion_takes_effect_at_once():
    """And leaves nothing to wait for."""
    day_by_day(
        """
        as_of      | computed | effective | falls_on
        2026-03-01 | C        | C         |
        2026-03-02 | B        | B         |
        2026-03-02 | A        | A         |
        2026-03-03 |          | A         |
        """,
        grace=14,
    )


def test_a_recovery_within_the_grace_leaves_no_trace():
    """Back in time, the customer never fell; the next demotion has its whole grace."""
    day_by_day(
        """
        as_of      | computed | effective | falls_on
        2026-03-01 | A        | A         |
        2026-03-11 | B        | A         | 2026-03-25
        2026-03-20 | A        | A         |
        2026-04-01 | B        | A         | 2026-04-15
        2026-04-15 |          | B         |
        """,
        grace=14,
    )


def test_a_demotion_in_steps():
    """Each tier keeps its own grace: after A's has passed, B's still holds."""
    day_by_day(
        """
        as_of      | computed | effective | falls_on
        2026-03-01 | A        | A         |
        2026-03-04 | B        | A         | 2026-03-07
        2026-03-06 | C        | A         | 2026-03-07
        2026-03-07 |          | B         | 2026-03-09
        2026-03-08 |          | B         | 2026-03-09
        2026-03-09 |          | C         |
        2026-03-10 | unrated  | C         | 2026-03-13
        2026-03-13 |          | unrated   |
        """,
        grace=3,
    )


def test_days_jumped_over_close_with_what_stood():
    """Nobody looked from the 2nd to the 20th: all those days closed with A."""
    day_by_day(
        """
        as_of      | computed | effective | falls_on
        2026-03-01 | A        | A         |
        2026-03-20 | C        | A         | 2026-04-03
        2026-04-03 |          | C         |
        """,
        grace=14,
    )


def test_within_one_day_nothing_closes():
    """A for an hour is no day of A."""
    day_by_day(
        """
        as_of      | computed | effective | falls_on
        2026-03-01 | C        | C         |
        2026-03-05 | A C      | C         |
        2026-03-06 | A        | A         |
        2026-03-06 | C        | C         |
        2026-03-07 |          | C         |
        """,
        grace=14,
    )


def test_the_last_of_several_moves_closes_the_day():
    """B until the evening, A at midnight: the day closed with A."""
    day_by_day(
        """
        as_of      | computed | effective | falls_on
        2026-03-05 | B A      | A         |
        2026-03-06 | C        | A         | 2026-03-08
        2026-03-07 |          | A         | 2026-03-08
        2026-03-08 |          | C         |
        """,
        grace=2,
    )


def test_without_grace_every_demotion_counts_at_once():
    """The effective tier is the computed one."""
    day_by_day(
        """
        as_of      | computed | effective | falls_on
        2026-03-01 | A        | A         |
        2026-03-02 | B        | B         |
        2026-03-02 | unrated  | unrated   |
        """,
        grace=0,
    )
