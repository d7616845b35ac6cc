"""Lifetime figures have no window

They count every business day up to `as_of`.
`recency_days` is the number of days since the last order day; `mean_days_between_orders` the days from the first to the
last order day, divided by the number of distinct order days less one: without two such days there is none.
"""

from tests.spec.story import told


def test_first_last_recency_and_rhythm():
    """Two orders on one day are one order day."""
    told(
        """
        id | event  | at               | order | amount
        e1 | order  | 2024-01-01       | O-1   | 100.00
        e2 | order  | 2024-01-05 08:00 | O-2   | 10.00
        e3 | order  | 2024-01-05 09:00 | O-3   | 10.00
        e4 | order  | 2024-01-08       | O-4   | 1.00
        """
    ).shows(
        """
        as_of      | window   | orders | net_revenue | recency_days | mean_days_between_orders
        2023-12-31 | lifetime | 0      | 0.00        | none         | none
        2024-01-01 | lifetime | 1      | 100.00      | 0            | none
        2024-01-05 | lifetime | 3      | 120.00      | 0            | 4
        2024-01-07 | lifetime | 3      | 120.00      | 2            | 4
        2024-01-08 | lifetime | 4      | 121.00      | 0            | 7/2
        2026-01-08 | lifetime | 4      | 121.00      | 731          | 7/2
        """
    )


def test_the_first_and_the_last_day():
    """They are days of orders up to `as_of`."""
    told(
        """
        id | event  | at               | order | amount
        e1 | order  | 2024-01-01       | O-1   | 100.00
        e2 | order  | 2024-01-05 08:00 | O-2   | 10.00
        e3 | order  | 2024-01-05 09:00 | O-3   | 10.00
        e4 | order  | 2024-01-08       | O-4   | 1.00
        """
    ).shows(
        """
        as_of      | window   | first_order_day | last_order_day
        2023-12-31 | lifetime | none            | none
        2024-01-01 | lifetime | 2024-01-01      | 2024-01-01
        2024-01-05 | lifetime | 2024-01-01      | 2024-01-05
        2024-01-07 | lifetime | 2024-01-01      | 2024-01-05
        2024-01-08 | lifetime | 2024-01-01      | 2024-01-08
        2026-01-08 | lifetime | 2024-01-01      | 2024-01-08
        """
    )


def test_several_orders_on_one_day_give_no_rhythm():
    """There must be two distinct days."""
    told(
        """
        id | event | at               | order | amount
        e1 | order | 2026-03-01 08:00 | O-1   | 1
        e2 | order | 2026-03-01 20:00 | O-2   | 1
        """
    ).shows(
        """
        as_of      | window   | orders | recency_days | mean_days_between_orders
        2026-03-10 | lifetime | 2      | 9            | none
        """
    )


def test_returns_lower_lifetime_revenue():
    """Without orders there is no day, but there may be revenue, below zero."""
    told(
        """
        id | event  | at         | amount
        e1 | return | 2026-03-01 | 5.00
        """
    ).shows(
        """
        as_of      | window   | orders | net_revenue | first_order_day | last_order_day
        2027-03-01 | lifetime | 0      | -5.00       | none            | none
        """
    )


def test_a_cancelled_order_leaves_no_day_behind():
    """First and last order day are those of orders that count."""
    told(
        """
        id | event           | at         | ordered    | order | amount
        e1 | order           | 2026-03-01 |            | O-1   | 1
        e2 | order           | 2026-03-05 |            | O-2   | 1
        e3 | order           | 2026-03-09 |            | O-3   | 1
        e4 | order_cancelled | 2026-03-10 |            | O-3   |
        """
    ).shows(
        """
        as_of      | window   | orders | first_order_day | last_order_day | recency_days | mean_days_between_orders
        2026-03-10 | lifetime | 2      | 2026-03-01      | 2026-03-05     | 5            | 4
        """
    )
