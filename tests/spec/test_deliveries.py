"""A delivery is on time at the promised instant or before

`promised_at` and `delivered_at` of an order are each taken from the latest event that gives it, among the counting
version of the order and its `delivery` events: the greatest `occurred_at`, then the greatest `event_id`.
`on_time_rate` is the share of orders delivered at or before the promised instant, among the orders that have both.
It counts on the order's business day, whenever the goods came.
"""

from tests.spec.story import told


def test_a_delivery_event_completes_its_order():
    """What the order promised and what the delivery reports are held against each other."""
    told(
        """
        id | event    | at         | order | amount | promised         | delivered
        e1 | order    | 2026-03-01 | O-1   | 10     | 2026-03-03 18:00 |
        e2 | delivery | 2026-03-03 | O-1   |        |                  | 2026-03-03 17:59
        e3 | order    | 2026-03-01 | O-2   | 10     | 2026-03-03 18:00 |
        e4 | delivery | 2026-03-04 | O-2   |        |                  | 2026-03-03 18:01
        """
    ).shows(
        """
        as_of      | window | orders | on_time_rate
        2026-03-01 | 7d     | 2      | 1/2
        """
    )


def test_the_promised_instant_itself_is_on_time():
    """Instants compare to the microsecond, in whatever offset they are written."""
    told(
        """
        id | event | at         | order | amount | promised             | delivered
        e1 | order | 2026-03-01 | O-1   | 10     | 2026-03-03T18:00:00Z | 2026-03-04T02:00:00+08:00
        """
    ).shows(
        """
        as_of      | window | on_time_rate
        2026-03-01 | 7d     | 1
        """
    )
    told(
        """
        id | event | at         | order | amount | promised             | delivered
        e1 | order | 2026-03-01 | O-1   | 10     | 2026-03-03T18:00:00Z | 2026-03-03T18:00:00.000001Z
        """
    ).shows(
        """
        as_of      | window | on_time_rate
        2026-03-01 | 7d     | 0
        """
    )


def test_an_order_that_lacks_one_of_the_two_is_no_part_of_the_rate():
    """Without any order that has both there is no rate."""
    told(
        """
        id | event    | at         | order | amount | promised   | delivered
        e1 | order    | 2026-03-01 | O-1   | 10     | 2026-03-03 |
        e2 | order    | 2026-03-01 | O-2   | 10     |            | 2026-03-02
        e3 | delivery | 2026-03-02 | O-3   |        | 2026-03-03 | 2026-03-02
        """
    ).shows(
        """
        as_of      | window | orders | on_time_rate
        2026-03-03 | 7d     | 2      | none
        """
    )


def test_the_latest_event_that_gives_the_field_wins():
    """A later delivery corrects an earlier one, field by field; one that gives no instant changes nothing."""
    told(
        """
        id | event    | at               | order | amount | promised   | delivered
        e1 | order    | 2026-03-01 08:00 | O-1   | 10     | 2026-03-03 |
        e2 | delivery | 2026-03-04 08:00 | O-1   |        |            | 2026-03-04
        e3 | delivery | 2026-03-05 08:00 | O-1   |        | 2026-03-06 |
        e4 | delivery | 2026-03-06 08:00 | O-1   |        |            |
        """
    ).shows(
        """
        as_of      | window | on_time_rate
        2026-03-01 | 7d     | 1
        """
    )


def test_a_later_version_of_the_order_outweighs_earlier_deliveries():
    """The order's own instants take part with the version's `occurred_at`."""
    told(
        """
        id | event    | at         | order | amount | promised   | delivered
        e1 | order    | 2026-03-01 | O-1   | 10     | 2026-03-03 |
        e2 | delivery | 2026-03-04 | O-1   |        |            | 2026-03-02
        e3 | order    | 2026-03-05 | O-1   | 10     | 2026-03-03 | 2026-03-04
        """
    ).shows(
        """
        as_of      | window | on_time_rate
        2026-03-05 | 7d     | 0
        """
    )


def test_a_version_without_the_field_leaves_it_to_the_deliveries():
    """Only versions are taken whole; deliveries stay with the order whichever version counts."""
    told(
        """
        id | event    | at         | order | amount | promised   | delivered
        e1 | order    | 2026-03-01 | O-1   | 10     | 2026-03-09 | 2026-03-02
        e2 | delivery | 2026-03-02 | O-1   |        | 2026-03-03 | 2026-03-04
        e3 | order    | 2026-03-05 | O-1   | 12     |            |
        """
    ).shows(
        """
        as_of      | window | gross_revenue | on_time_rate
        2026-03-05 | 7d     | 12.00         | 0
        """
    )


def test_of_one_instant_the_greater_event_id_gives_the_field():
    """Also between an order and a delivery of it."""
    told(
        """
        id | event    | at         | order | amount | promised   | delivered
        b  | order    | 2026-03-01 | O-1   | 10     | 2026-03-03 | 2026-03-02
        a  | delivery | 2026-03-01 | O-1   |        |            | 2026-03-04
        c  | delivery | 2026-03-01 | O-1   |        | 2026-03-01 |
        """
    ).shows(
        """
        as_of      | window | on_time_rate
        2026-03-01 | 7d     | 0
        """
    )


def test_a_cancelled_order_has_no_punctuality():
    """Once it is placed again, its deliveries count again."""
    told(
        """
        id | event           | at         | order | amount | promised   | delivered
        e1 | order           | 2026-03-01 | O-1   | 10     | 2026-03-03 |
        e2 | delivery        | 2026-03-02 | O-1   |        |            | 2026-03-02
        e3 | order_cancelled | 2026-03-04 | O-1   |        |            |
        """
    ).shows(
        """
        as_of      | window | on_time_rate
        2026-03-04 | 7d     | none
        """
    )
    told(
        """
        id | event           | at         | order | amount | promised   | delivered
        e2 | delivery        | 2026-03-02 | O-1   |        |            | 2026-03-02
        e3 | order_cancelled | 2026-03-04 | O-1   |        |            |
        e4 | order           | 2026-03-05 | O-1   | 10     | 2026-03-03 |
        """
    ).shows(
        """
        as_of      | window | on_time_rate
        2026-03-05 | 7d     | 1
        """
    )
