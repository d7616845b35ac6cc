"""An order is its latest version

For each customer and order id, among its `order` and `order_cancelled` events, the one with the greatest `occurred_at`
counts, whole; of two at the same instant, the one whose `event_id` is greater by its UTF-8 bytes.
Nothing is merged between versions.
A cancelled order counts nothing anywhere; an `order` after its cancellation counts again.
The order of arrival decides nothing.
"""

from tests.spec.story import told


def test_the_latest_version_counts_whole():
    """A later version replaces the earlier one: what it leaves out is gone, not kept."""
    told(
        """
        id | event | at               | order | amount | cost  | items
        e1 | order | 2026-03-01 09:00 | O-1   | 100.00 | 60.00 | 5
        e2 | order | 2026-03-01 10:00 | O-1   | 120.00 |       |
        """
    ).shows(
        """
        as_of      | window | orders | gross_revenue | gross_profit | items
        2026-03-01 | 7d     | 1      | 120.00        | none         | 0
        """
    )


def test_of_one_instant_the_greater_event_id_counts():
    """Ids compare by UTF-8 bytes: digits before capitals before small letters before everything beyond ASCII."""
    told(
        """
        id | event | at         | order | amount
        a9 | order | 2026-03-01 | O-1   | 1.00
        a: | order | 2026-03-01 | O-1   | 2.00
        Z  | order | 2026-03-01 | O-1   | 3.00
        """
    ).shows(
        """
        as_of      | window | orders | gross_revenue
        2026-03-01 | 7d     | 1      | 2.00
        """
    )
    told(
        """
        id | event | at         | order | amount
        ～  | order | 2026-03-01 | O-1   | 1.00
        😀 | order | 2026-03-01 | O-1   | 2.00
        z  | order | 2026-03-01 | O-1   | 3.00
        """
    ).shows(
        """
        as_of      | window | orders | gross_revenue
        2026-03-01 | 7d     | 1      | 2.00
        """
    )


def test_a_microsecond_later_is_later():
    """Instants compare to the microsecond, in whatever offset they are written."""
    told(
        """
        id | event | at                               | order | amount
        e2 | order | 2026-03-01T12:00:00.000001Z      | O-1   | 1.00
        e1 | order | 2026-03-01T20:00:00.000002+08:00 | O-1   | 2.00
        """
    ).shows(
        """
        as_of      | window | gross_revenue
        2026-03-01 | 7d     | 2.00
        """
    )


def test_a_cancelled_order_counts_nothing():
    """A cancellation takes the whole order out, whichever of the two arrives first."""
    told(
        """
        id | event           | at         | order | amount
        e1 | order           | 2026-03-01 | O-1   | 100.00
        e2 | order_cancelled | 2026-03-03 | O-1   |
        e3 | order           | 2026-03-02 | O-2   | 7.00
        """
    ).shows(
        """
        as_of      | window | orders | gross_revenue
        2026-03-03 | 30d    | 1      | 7.00
        """
    )


def test_an_order_after_its_cancellation_counts_again():
    """An `order` later than the cancellation is the counting version."""
    told(
        """
        id | event           | at         | order | amount
        e1 | order           | 2026-03-01 | O-1   | 100.00
        e2 | order_cancelled | 2026-03-02 | O-1   |
        e3 | order           | 2026-03-03 | O-1   | 90.00
        """
    ).shows(
        """
        as_of      | window | orders | gross_revenue
        2026-03-03 | 7d     | 1      | 90.00
        """
    )


def test_a_version_moves_the_order_to_its_own_day():
    """The day is that of the counting version's `ordered_at`, else of its `occurred_at`."""
    told(
        """
        id | event | at         | ordered    | order | amount
        e1 | order | 2026-03-01 |            | O-1   | 100.00
        e2 | order | 2026-03-05 | 2026-02-20 | O-1   | 100.00
        """
    ).shows(
        """
        as_of      | window   | orders | first_order_day | last_order_day
        2026-03-05 | lifetime | 1      | 2026-02-20      | 2026-02-20
        """
    )
    told(
        """
        id | event | at         | ordered    | order | amount
        e1 | order | 2026-03-01 | 2026-02-20 | O-1   | 100.00
        e2 | order | 2026-03-05 |            | O-1   | 100.00
        """
    ).shows(
        """
        as_of      | window   | orders | first_order_day | last_order_day
        2026-03-05 | lifetime | 1      | 2026-03-05      | 2026-03-05
        """
    )


def test_the_same_order_id_of_two_customers_is_two_orders():
    """An order belongs to its customer: a cancellation reaches nobody else's."""
    told(
        """
        id | event           | customer | at         | order | amount
        e1 | order           | C-1      | 2026-03-01 | O-1   | 100.00
        e2 | order           | C-2      | 2026-03-02 | O-1   | 50.00
        e3 | order_cancelled | C-2      | 2026-03-03 | O-1   |
        """
    ).shows(
        """
        as_of      | window | customer | orders | gross_revenue
        2026-03-03 | 7d     | C-1      | 1      | 100.00
        2026-03-03 | 7d     | C-2      | 0      | 0.00
        """
    )


def test_a_cancellation_alone_counts_nothing():
    """A cancellation of an order never seen makes the customer known, and no more."""
    told(
        """
        id | event           | at         | order
        e1 | order_cancelled | 2026-03-01 | O-1
        """
    ).shows(
        """
        as_of      | window | orders | gross_revenue | average_order_value
        2026-03-01 | 365d   | 0      | 0.00          | none
        """
    )
