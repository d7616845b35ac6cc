"""Windows roll with as_of

The windows `7d`, `30d`, `90d` and `365d` cover the business days `as_of` - n + 1 to `as_of`, both included.
What leaves a window leaves its figures, by the passing of time alone; what lies after `as_of` is not in it yet.
Every figure is computed afresh for the day that is asked for.
"""

from tests.spec.story import told


def test_the_last_day_inside_and_the_first_outside():
    """An order of day 1 of the window counts, on the next day it does not."""
    told(
        """
        id | event | at         | order | amount
        e1 | order | 2026-01-01 | O-1   | 100.00
        """
    ).shows(
        """
        as_of      | window | orders | gross_revenue
        2025-12-31 | 7d     | 0      | 0.00
        2026-01-01 | 7d     | 1      | 100.00
        2026-01-07 | 7d     | 1      | 100.00
        2026-01-08 | 7d     | 0      | 0.00
        2026-01-30 | 30d    | 1      | 100.00
        2026-01-31 | 30d    | 0      | 0.00
        2026-03-31 | 90d    | 1      | 100.00
        2026-04-01 | 90d    | 0      | 0.00
        2026-12-31 | 365d   | 1      | 100.00
        2027-01-01 | 365d   | 0      | 0.00
        """
    )


def test_365_days_are_no_year():
    """Across a leap day the window is a day shorter than the year."""
    told(
        """
        id | event | at         | order | amount
        e1 | order | 2024-02-28 | O-1   | 100.00
        """
    ).shows(
        """
        as_of      | window | orders
        2025-02-26 | 365d   | 1
        2025-02-27 | 365d   | 0
        """
    )


def test_windows_shrink_as_time_passes():
    """Nothing happens, and the week empties day by day."""
    told(
        """
        id | event | at         | order | amount | items | parcels | weight_kg
        e1 | order | 2026-03-01 | O-1   | 10.00  | 1     | 1       | 0.1
        e2 | order | 2026-03-03 | O-2   | 20.00  | 2     | 1       | 0.2
        e3 | order | 2026-03-05 | O-3   | 40.00  | 4     | 3       | 0.4
        """
    ).shows(
        """
        as_of      | window | orders | gross_revenue | average_order_value | items | parcels | weight_kg
        2026-03-05 | 7d     | 3      | 70.00         | 23.33               | 7     | 5       | 0.7
        2026-03-07 | 7d     | 3      | 70.00         | 23.33               | 7     | 5       | 0.7
        2026-03-08 | 7d     | 2      | 60.00         | 30.00               | 6     | 4       | 0.6
        2026-03-10 | 7d     | 1      | 40.00         | 40.00               | 4     | 3       | 0.4
        2026-03-12 | 7d     | 0      | 0.00          | none                | 0     | 0       | 0
        2026-03-12 | 30d    | 3      | 70.00         | 23.33               | 7     | 5       | 0.7
        """
    )


def test_a_day_ahead_waits_for_its_day():
    """An event a few minutes early, just after midnight, counts from its own day on."""
    told(
        """
        id | event | at               | order | amount
        e1 | order | 2026-03-01 23:59 | O-1   | 10.00
        e2 | order | 2026-03-02 00:01 | O-2   | 20.00
        """
    ).shows(
        """
        as_of      | window | gross_revenue
        2026-03-01 | 7d     | 10.00
        2026-03-02 | 7d     | 30.00
        """
    )


def test_a_late_event_counts_on_its_own_day():
    """The order counts where it belongs, however late it is told."""
    told(
        """
        id | event | at         | ordered    | order | amount
        e1 | order | 2026-03-20 | 2026-03-01 | O-1   | 10.00
        """
    ).shows(
        """
        as_of      | window | orders
        2026-03-07 | 7d     | 1
        2026-03-20 | 7d     | 0
        2026-03-20 | 30d    | 1
        """
    )


def test_figures_have_no_upper_limit():
    """Sums are exact beyond 64 bits."""
    told(
        """
        id | event | at         | order | amount            | currency
        e1 | order | 2026-03-01 | O-1   | 999999999999.9999 | CLF
        e2 | order | 2026-03-01 | O-2   | 999999999999.9999 | CLF
        e3 | order | 2026-03-01 | O-3   | 999999999999.9999 | CLF
        """,
        rates="""
        currency | day        | rate
        CLF      | 2026-01-01 | 40000
        """,
    ).shows(
        """
        as_of      | window | gross_revenue
        2026-03-01 | 7d     | 119999999999999988.00
        """
    )
