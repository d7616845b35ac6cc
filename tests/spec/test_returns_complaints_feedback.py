"""Returns, complaints and feedback count by themselves

Each counts once, on the business day of its own `occurred_at`, whatever becomes of the order that it names.
Returns lower net revenue on the day of the return, not on the day of the order.
`return_rate` is returns per order and `complaint_rate` complaints per order of the same window; both may exceed 1, and
neither exists without orders.
`feedback_score` is the mean of all scores, whatever their kind.
"""

from tests.spec.story import told


def test_a_return_counts_on_its_own_day():
    """Three days later the order has left the week, and the return stands alone."""
    told(
        """
        id | event  | at         | order | amount
        e1 | order  | 2026-03-01 | O-1   | 100.00
        e2 | return | 2026-03-04 | O-1   | 30.00
        """
    ).shows(
        """
        as_of      | window | orders | gross_revenue | returned_amount | net_revenue | returns | return_rate
        2026-03-03 | 7d     | 1      | 100.00        | 0.00            | 100.00      | 0       | 0
        2026-03-04 | 7d     | 1      | 100.00        | 30.00           | 70.00       | 1       | 1
        2026-03-08 | 7d     | 0      | 0.00          | 30.00           | -30.00      | 1       | none
        """
    )


def test_a_return_outlives_its_order():
    """The order is cancelled, the return still counts; an order never seen makes no difference."""
    told(
        """
        id | event           | at         | order | amount
        e1 | order           | 2026-03-01 | O-1   | 100.00
        e2 | return          | 2026-03-02 | O-1   | 30.00
        e3 | order_cancelled | 2026-03-03 | O-1   |
        e4 | return          | 2026-03-03 | O-9   | 5.00
        """
    ).shows(
        """
        as_of      | window | orders | net_revenue | returns | return_rate
        2026-03-03 | 7d     | 0      | -35.00      | 2       | none
        """
    )


def test_one_per_event():
    """Two complaints about one order are two, and the rate may exceed 1."""
    told(
        """
        id | event     | at         | order | amount | severity
        e1 | order     | 2026-03-01 | O-1   | 100.00 |
        e2 | complaint | 2026-03-02 | O-1   |        | 5
        e3 | complaint | 2026-03-02 | O-1   |        | 1
        e4 | complaint | 2026-03-03 |       |        |
        """
    ).shows(
        """
        as_of      | window | complaints | complaint_rate
        2026-03-02 | 7d     | 2          | 2
        2026-03-03 | 7d     | 3          | 3
        """
    )


def test_rates_are_of_the_same_window():
    """One complaint on three orders is the double nearest to a third."""
    told(
        """
        id | event     | at         | order | amount
        e1 | order     | 2026-03-01 | O-1   | 1
        e2 | order     | 2026-03-20 | O-2   | 1
        e3 | order     | 2026-03-20 | O-3   | 1
        e4 | complaint | 2026-03-20 |       |
        """
    ).shows(
        """
        as_of      | window | orders | complaint_rate
        2026-03-20 | 7d     | 2      | 1/2
        2026-03-20 | 30d    | 3      | 1/3
        """
    )


def test_all_kinds_of_feedback_make_one_mean():
    """Scores are exact: 0.1, 0.2 and 10 have the mean 10.3 / 3."""
    told(
        """
        id | event    | at         | score | kind
        e1 | feedback | 2026-03-01 | 0.1   | nps
        e2 | feedback | 2026-03-01 | 0.2   | csat
        e3 | feedback | 2026-03-02 | 10    | survey
        e4 | feedback | 2026-03-03 | 0     |
        """
    ).shows(
        """
        as_of      | window | feedback_score
        2026-02-28 | 7d     | none
        2026-03-01 | 7d     | 3/20
        2026-03-02 | 7d     | 103/30
        2026-03-03 | 7d     | 103/40
        """
    )
