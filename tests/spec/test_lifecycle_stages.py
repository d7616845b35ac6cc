"""A customer's lifecycle follows its own rhythm

The rhythm is the mean number of days between order days, rounded up and kept within 7 to 120; with fewer than two order
days it is 30.
The first that holds decides: no order, `prospect`; last order more than 365 days ago, `lost`; more than 6 rhythms,
`dormant`; more than 3 rhythms, `at_risk`; first order less than 60 days ago, `new`; won back less than 60 days ago,
`won_back`; otherwise `active`. Won back is who orders again after having been dormant or lost, by the rhythm that its
order days until then had given it.
The numbers are the shipped policy's.
"""

from importlib import resources

from tests.spec.story import told

from segmentation import policy as policies

POLICY = policies.parse(resources.files("segmentation").joinpath("policies/default.toml").read_text(), version=1)


def test_a_first_order_and_then_silence():
    """With one order day the rhythm is 30: new for 60 days, at risk after 90, dormant after 180, lost after 365."""
    told(
        """
        event | at         | order | amount
        order | 2026-01-01 | O-1   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | lifecycle
        2025-12-31 | C-1      | C    | prospect
        2026-01-01 | C-1      | C    | new
        2026-03-01 | C-1      | C    | new
        2026-03-02 | C-1      | C    | active
        2026-04-01 | C-1      | C    | active
        2026-04-02 | C-1      | C    | at_risk
        2026-06-30 | C-1      | C    | at_risk
        2026-07-01 | C-1      | C    | dormant
        2027-01-01 | C-1      | C    | dormant
        2027-01-02 | C-1      | C    | lost
        """,
        POLICY,
    )


def test_the_rhythm_is_the_customers_own():
    """Order days 10 and 11 days apart give 10.5, rounded up to 11: at risk after 33 days, dormant after 66."""
    told(
        """
        event | at         | order | amount
        order | 2026-01-01 | O-1   | 10.00
        order | 2026-01-11 | O-2   | 10.00
        order | 2026-01-22 | O-3   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | lifecycle
        2026-02-24 | C-1      | C    | new
        2026-02-25 | C-1      | C    | at_risk
        2026-03-29 | C-1      | C    | at_risk
        2026-03-30 | C-1      | C    | dormant
        """,
        POLICY,
    )


def test_the_shortest_rhythm():
    """Who orders every day is given a week, so that three weeks of silence are a sign and three days are not."""
    told(
        """
        event | at         | order | amount
        order | 2026-01-01 | O-1   | 10.00
        order | 2026-01-02 | O-2   | 10.00
        order | 2026-01-03 | O-3   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | lifecycle
        2026-01-24 | C-1      | C    | new
        2026-01-25 | C-1      | C    | at_risk
        2026-02-14 | C-1      | C    | at_risk
        2026-02-15 | C-1      | C    | dormant
        """,
        POLICY,
    )


def test_the_longest_rhythm():
    """Once in two years is held for once in 120 days: at risk after 360; then the year decides."""
    told(
        """
        event | at         | order | amount
        order | 2024-01-01 | O-1   | 10.00
        order | 2026-01-01 | O-2   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | lifecycle
        2026-12-27 | C-1      | C    | active
        2026-12-28 | C-1      | C    | at_risk
        2027-01-01 | C-1      | C    | at_risk
        2027-01-02 | C-1      | C    | lost
        """,
        POLICY,
    )


def test_an_order_wins_a_lost_customer_back():
    """Won back for 60 days, unless silence comes first; new is only who first ordered less than 60 days ago."""
    told(
        """
        event | at         | order | amount
        order | 2024-01-01 | O-1   | 10.00
        order | 2026-01-01 | O-2   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | lifecycle | changes_on
        2025-12-31 | C-1      | C    | lost      | 2026-01-01
        2026-01-01 | C-1      | C    | won_back  | 2026-03-02
        2026-03-01 | C-1      | C    | won_back  | 2026-03-02
        2026-03-02 | C-1      | C    | active    | 2026-04-01
        """,
        POLICY,
    )


def test_a_dormant_customer_is_won_back_too():
    """By the rhythm that the order days before the silence had given: 10, so dormant after 60 days, not after 61."""
    told(
        """
        event | customer | at         | order | amount
        order | C-1      | 2026-01-01 | O-1   | 10.00
        order | C-1      | 2026-01-11 | O-2   | 10.00
        order | C-1      | 2026-03-14 | O-3   | 10.00
        order | C-2      | 2026-01-01 | O-1   | 10.00
        order | C-2      | 2026-01-11 | O-2   | 10.00
        order | C-2      | 2026-03-13 | O-3   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | lifecycle
        2026-03-13 | C-1      | C    | dormant
        2026-03-14 | C-1      | C    | won_back
        2026-05-12 | C-1      | C    | won_back
        2026-05-13 | C-1      | C    | active
        2026-03-12 | C-2      | C    | at_risk
        2026-03-13 | C-2      | C    | active
        """,
        POLICY,
    )


def test_silence_says_when_it_ends_the_stage():
    """The next day on which something changes by the passing of time alone is known beforehand."""
    told(
        """
        event | at         | order | amount
        order | 2026-01-01 | O-1   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | lifecycle | changes_on
        2026-01-01 | C-1      | C    | new       | 2026-03-02
        2026-03-02 | C-1      | C    | active    | 2026-04-01
        2026-04-01 | C-1      | C    | active    | 2026-04-02
        2026-04-02 | C-1      | C    | at_risk   | 2026-07-01
        2026-07-01 | C-1      | C    | dormant   | 2027-01-01
        2027-01-01 | C-1      | C    | dormant   | 2027-01-02
        2027-01-02 | C-1      | C    | lost      | 9999-12-31
        """,
        POLICY,
    )


def test_complaints_alone_make_a_prospect():
    """Without an order there is no stage to leave."""
    told(
        """
        event     | at
        complaint | 2024-01-01
        """
    ).decides(
        """
        as_of      | customer | tier    | lifecycle
        2026-01-01 | C-1      | unrated | prospect
        """,
        POLICY,
    )
