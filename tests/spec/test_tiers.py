"""Tiers are the smallest prefixes that reach their shares

Everyone whose net revenue of the last 365 days is above zero is ranked by it, the highest first, ties by customer id in
ascending byte order.
The tier is A where less than 80 % of the total stands strictly ahead, else B where less than 95 % does, else C: each
tier is the smallest prefix of the ranking that reaches its share, and the customer who crosses it is still inside.
Whoever has nothing, or less, is `unrated`.
Comparisons are exact.
"""

from fractions import Fraction

from tests.spec.story import told

from segmentation import tiering
from segmentation.fields import CustomerId
from segmentation.metrics import column
from segmentation.tiering import Basis, CutOffs, TierRules


def test_the_crossing_customer_is_included():
    """The total is 100: with 79 ahead the next is still A, with 93 ahead still B, with 97 ahead C."""
    told(
        """
        event | customer | at         | order | amount
        order | C-1      | 2026-03-01 | O-1   | 79.00
        order | C-2      | 2026-03-01 | O-2   | 14.00
        order | C-3      | 2026-03-01 | O-3   | 4.00
        order | C-4      | 2026-03-01 | O-4   | 3.00
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-03-01 | C-1      | A
        2026-03-01 | C-2      | A
        2026-03-01 | C-3      | B
        2026-03-01 | C-4      | C
        """
    )


def test_a_share_reached_exactly_is_reached():
    """With exactly 80 % ahead it is B, with exactly 95 % ahead C; a cent less, and it is the better tier."""
    told(
        """
        event | customer | at         | order | amount
        order | C-1      | 2026-03-01 | O-1   | 80.00
        order | C-2      | 2026-03-01 | O-2   | 15.00
        order | C-3      | 2026-03-01 | O-3   | 5.00
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-03-01 | C-1      | A
        2026-03-01 | C-2      | B
        2026-03-01 | C-3      | C
        """
    )
    told(
        """
        event | customer | at         | order | amount
        order | C-1      | 2026-03-01 | O-1   | 79.99
        order | C-2      | 2026-03-01 | O-2   | 15.00
        order | C-3      | 2026-03-01 | O-3   | 5.01
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-03-01 | C-1      | A
        2026-03-01 | C-2      | A
        2026-03-01 | C-3      | B
        """
    )


def test_ties_go_by_customer_id():
    """Of equals the id that is smaller by its bytes stands ahead: capitals before small letters, 10 before 9."""
    told(
        """
        event | customer | at         | order | amount
        order | c-9      | 2026-03-01 | O-1   | 25.00
        order | c-10     | 2026-03-01 | O-2   | 25.00
        order | D        | 2026-03-01 | O-3   | 25.00
        order | d        | 2026-03-01 | O-4   | 24.99
        order | D.1      | 2026-03-01 | O-5   | 0.01
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-03-01 | D        | A
        2026-03-01 | c-10     | A
        2026-03-01 | c-9      | A
        2026-03-01 | d        | A
        2026-03-01 | D.1      | C
        """
    )
    told(
        """
        event | customer | at         | order | amount
        order | b        | 2026-03-01 | O-1   | 10.00
        order | a        | 2026-03-01 | O-2   | 10.00
        order | c        | 2026-03-01 | O-3   | 80.00
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-03-01 | c        | A
        2026-03-01 | a        | B
        2026-03-01 | b        | B
        """
    )


def test_nothing_and_less_than_nothing_is_unrated():
    """They take no part in the total either."""
    told(
        """
        id | event  | customer | at         | order | amount
        e1 | order  | C-1      | 2026-03-01 | O-1   | 10.00
        e2 | order  | C-2      | 2026-03-01 | O-2   | 10.00
        e3 | return | C-2      | 2026-03-01 |       | 10.00
        e4 | return | C-3      | 2026-03-01 |       | 1000.00
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-03-01 | C-1      | A
        2026-03-01 | C-2      | unrated
        2026-03-01 | C-3      | unrated
        """
    )


def test_one_customer_of_85_percent_is_all_of_a():
    """The largest customer crosses 80 % alone; the next crosses 95 %."""
    told(
        """
        event | customer | at         | order | amount
        order | C-1      | 2026-03-01 | O-1   | 85.00
        order | C-2      | 2026-03-01 | O-2   | 11.00
        order | C-3      | 2026-03-01 | O-3   | 4.00
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-03-01 | C-1      | A
        2026-03-01 | C-2      | B
        2026-03-01 | C-3      | C
        """
    )


def test_a_customer_alone_is_a():
    """However little it is."""
    told(
        """
        event | at         | order | amount
        order | 2026-03-01 | O-1   | 0.01
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-02-28 | C-1      | unrated
        2026-03-01 | C-1      | A
        """
    )


def test_one_customers_order_moves_another():
    """C-2 does nothing, and falls when C-1 orders; it rises when that order leaves the window."""
    told(
        """
        event | customer | at         | order | amount
        order | C-1      | 2026-03-01 | O-1   | 10.00
        order | C-2      | 2026-05-01 | O-2   | 10.00
        order | C-1      | 2026-04-01 | O-3   | 990.00
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-03-01 | C-2      | unrated
        2026-05-01 | C-1      | A
        2026-05-01 | C-2      | C
        2027-03-31 | C-2      | C
        2027-04-01 | C-1      | unrated
        2027-04-01 | C-2      | A
        """
    )


def test_the_basis_may_be_gross_profit():
    """Without a cost there is no profit to rank by."""
    told(
        """
        event | customer | at         | order | amount | cost
        order | C-1      | 2026-03-01 | O-1   | 900.00 | 899.00
        order | C-2      | 2026-03-01 | O-2   | 100.00 | 1.00
        order | C-3      | 2026-03-01 | O-3   | 999.00 |
        order | C-4      | 2026-03-01 | O-4   | 1.00   | 2.00
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-03-01 | C-1      | C
        2026-03-01 | C-2      | A
        2026-03-01 | C-3      | unrated
        2026-03-01 | C-4      | unrated
        """,
        rules=TierRules(basis=Basis.GROSS_PROFIT),
    )


def test_the_basis_may_be_orders():
    """Their number, whatever they brought; the shares are part of the policy too."""
    told(
        """
        event | customer | at         | order | amount
        order | C-1      | 2026-03-01 | O-1   | 900.00
        order | C-2      | 2026-03-01 | O-2   | 0
        order | C-2      | 2026-03-02 | O-3   | 0
        """
    ).ranks(
        """
        as_of      | customer | tier
        2026-03-02 | C-1      | B
        2026-03-02 | C-2      | A
        """,
        rules=TierRules(basis=Basis.ORDERS, share_a=Fraction(1, 2), share_b=Fraction(1)),
    )


def test_nobody_to_rank():
    """Without anyone above zero there are no cut-offs and no total."""
    for values in ([], [0], [0, -5]):
        ranking = tiering.rank(column(values), [CustomerId(f"C-{n}") for n in range(len(values))], TierRules())
        assert (ranking.cutoffs, ranking.total) == (CutOffs(None, None), 0)
        assert set(ranking.tiers.tolist()) <= {tiering.RANK[tiering.Tier.UNRATED]}
