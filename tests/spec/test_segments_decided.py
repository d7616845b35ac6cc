"""A segment is decided by the first row that holds

The policy's table of segments is read from the top; a row holds when all its conditions do, and the first that holds
decides. Conditions look at the effective tier, the lifecycle, and figures over a window; the reasons are the conditions
that held, with the facts as they were.
The rows are the shipped policy's: `key_at_risk`, `strategic`, `complaint_prone`, `return_prone`, `core_at_risk`,
`core`, `newcomer`, `inactive`, `standard`.
"""

from importlib import resources

from tests.spec.story import told

from segmentation import policy as policies

POLICY = policies.parse(resources.files("segmentation").joinpath("policies/default.toml").read_text(), version=1)


def test_tier_and_lifecycle_decide():
    """One order, then silence: what the passing of time makes of a customer in each tier."""
    told(
        """
        event | at         | order | amount
        order | 2026-01-01 | O-1   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier    | lifecycle | segment
        2026-01-01 | C-1      | A       | new       | strategic
        2026-03-02 | C-1      | A       | active    | strategic
        2026-04-02 | C-1      | A       | at_risk   | key_at_risk
        2026-07-01 | C-1      | A       | dormant   | key_at_risk
        2027-01-02 | C-1      | A       | lost      | key_at_risk
        2026-01-01 | C-1      | B       | new       | core
        2026-03-02 | C-1      | B       | active    | core
        2026-04-02 | C-1      | B       | at_risk   | core_at_risk
        2027-01-02 | C-1      | B       | lost      | core_at_risk
        2026-01-01 | C-1      | C       | new       | newcomer
        2026-03-02 | C-1      | C       | active    | standard
        2026-04-02 | C-1      | C       | at_risk   | standard
        2026-07-01 | C-1      | C       | dormant   | inactive
        2027-01-02 | C-1      | unrated | lost      | inactive
        2025-12-31 | C-1      | unrated | prospect  | newcomer
        """,
        POLICY,
    )


def test_three_complaints_and_a_quarter_of_the_orders():
    """Complaint-prone with at least 3 complaints in 90 days, on at least 25 of 100 orders; only an A stays above it."""
    told(
        """
        event     | at         | order | amount
        order     | 2026-01-01 | O-1   | 10.00
        order     | 2026-01-02 | O-2   | 10.00
        complaint | 2026-01-03 |       |
        complaint | 2026-01-03 |       |
        complaint | 2026-01-04 |       |
        """
    ).decides(
        """
        as_of      | customer | tier | segment         | reasons
        2026-01-03 | C-1      | C    | newcomer        | lifecycle new
        2026-01-04 | C-1      | C    | complaint_prone | complaints_90d 3 (>= 3), complaint_rate_90d 1.5 (>= 0.25)
        2026-01-04 | C-1      | B    | complaint_prone | complaints_90d 3 (>= 3), complaint_rate_90d 1.5 (>= 0.25)
        2026-01-04 | C-1      | A    | strategic       | tier A
        2026-04-02 | C-1      | B    | core_at_risk    | tier B, lifecycle dormant
        """,
        POLICY,
    )


def test_rates_are_compared_exactly():
    """3 complaints on 12 orders are 0.25 and reach it; on 13 they do not."""
    twelve = """
        event     | at         | order | amount
        order     | 2026-01-01 | O-01  | 10.00
        order     | 2026-01-01 | O-02  | 10.00
        order     | 2026-01-01 | O-03  | 10.00
        order     | 2026-01-01 | O-04  | 10.00
        order     | 2026-01-01 | O-05  | 10.00
        order     | 2026-01-01 | O-06  | 10.00
        order     | 2026-01-01 | O-07  | 10.00
        order     | 2026-01-01 | O-08  | 10.00
        order     | 2026-01-01 | O-09  | 10.00
        order     | 2026-01-01 | O-10  | 10.00
        order     | 2026-01-01 | O-11  | 10.00
        order     | 2026-01-01 | O-12  | 10.00
        complaint | 2026-01-02 |       |
        complaint | 2026-01-02 |       |
        complaint | 2026-01-02 |       |
        order     | 2026-01-03 | O-13  | 10.00
        """
    told(twelve).decides(
        """
        as_of      | customer | tier | segment
        2026-01-02 | C-1      | C    | complaint_prone
        2026-01-03 | C-1      | C    | newcomer
        """,
        POLICY,
    )


def test_three_returns_and_half_of_the_orders():
    """Return-prone with at least 3 returns in 90 days, on at least half of the orders."""
    told(
        """
        event  | at         | order | amount
        order  | 2026-01-01 | O-1   | 10.00
        order  | 2026-01-01 | O-2   | 10.00
        order  | 2026-01-01 | O-3   | 10.00
        order  | 2026-01-01 | O-4   | 10.00
        order  | 2026-01-01 | O-5   | 10.00
        order  | 2026-01-01 | O-6   | 10.00
        return | 2026-01-02 | O-1   | 1.00
        return | 2026-01-02 | O-2   | 1.00
        return | 2026-01-03 | O-3   | 1.00
        """
    ).decides(
        """
        as_of      | customer | tier | segment      | reasons
        2026-01-02 | C-1      | C    | newcomer     | lifecycle new
        2026-01-03 | C-1      | C    | return_prone | returns_90d 3 (>= 3), return_rate_90d 0.5 (>= 0.5)
        """,
        POLICY,
    )


def test_a_rate_without_orders_never_holds():
    """Three complaints and no order in the window: there is no rate that could reach anything."""
    told(
        """
        event     | at
        complaint | 2026-01-03
        complaint | 2026-01-03
        complaint | 2026-01-04
        """
    ).decides(
        """
        as_of      | customer | tier    | segment
        2026-01-04 | C-1      | unrated | newcomer
        """,
        POLICY,
    )


def test_the_window_decides_by_the_passing_of_time_too():
    """After 90 days the complaints have left, and the day on which they will is known."""
    told(
        """
        event     | at         | order | amount
        order     | 2025-06-01 | O-1   | 10.00
        order     | 2026-01-01 | O-2   | 10.00
        complaint | 2026-01-03 |       |
        complaint | 2026-01-03 |       |
        complaint | 2026-01-03 |       |
        order     | 2026-01-10 | O-3   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | segment         | changes_on
        2026-01-10 | C-1      | C    | complaint_prone | 2026-03-02
        2026-03-02 | C-1      | C    | complaint_prone | 2026-04-01
        2026-04-01 | C-1      | C    | complaint_prone | 2026-04-03
        2026-04-03 | C-1      | C    | standard        | 2026-04-10
        """,
        POLICY,
    )
