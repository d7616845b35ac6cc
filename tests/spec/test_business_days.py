"""The business day is the calendar date in the business time zone

An event's business day is the date of its instant in `BUSINESS_TIMEZONE`, whatever offset the producer wrote.
Where clocks are put forward or back the day is still that of the wall clock.
"""

from tests.spec.story import told


def test_the_offset_of_the_producer_does_not_matter():
    """One instant, one day."""
    told(
        """
        id | event | at                        | order | amount
        e1 | order | 2026-03-01T00:30:00+08:00 | O-1   | 1
        e2 | order | 2026-02-28T16:30:00Z      | O-2   | 1
        """
    ).shows(
        """
        as_of      | window   | orders | last_order_day
        2026-03-05 | lifetime | 2      | 2026-02-28
        """
    )


def test_midnight_is_the_business_time_zones_own():
    """In Shanghai the day begins at 16:00 UTC of the day before."""
    told(
        """
        id | event | at                          | order | amount
        e1 | order | 2026-02-28T15:59:59.999999Z | O-1   | 1
        e2 | order | 2026-02-28T16:00:00Z        | O-2   | 1
        """,
        zone="Asia/Shanghai",
    ).shows(
        """
        as_of      | window   | orders | first_order_day | last_order_day
        2026-03-05 | lifetime | 2      | 2026-02-28      | 2026-03-01
        """
    )


def test_when_clocks_go_forward():
    """Berlin, 29 March 2026: 02:00 becomes 03:00. The next midnight comes an hour earlier in UTC."""
    told(
        """
        id | event | at                   | order | amount
        e1 | order | 2026-03-28T22:59:59Z | O-1   | 1
        e2 | order | 2026-03-28T23:00:00Z | O-2   | 10
        e3 | order | 2026-03-29T21:59:59Z | O-3   | 10
        e4 | order | 2026-03-29T22:00:00Z | O-4   | 100
        """,
        zone="Europe/Berlin",
    ).shows(
        """
        as_of      | window | gross_revenue
        2026-03-28 | 7d     | 1.00
        2026-03-29 | 7d     | 21.00
        2026-03-30 | 7d     | 121.00
        """
    )


def test_when_clocks_go_back():
    """Berlin, 25 October 2026: 03:00 becomes 02:00. The day has 25 hours."""
    told(
        """
        id | event | at                   | order | amount
        e1 | order | 2026-10-24T21:59:59Z | O-1   | 1
        e2 | order | 2026-10-24T22:00:00Z | O-2   | 10
        e3 | order | 2026-10-25T22:59:59Z | O-3   | 10
        e4 | order | 2026-10-25T23:00:00Z | O-4   | 100
        """,
        zone="Europe/Berlin",
    ).shows(
        """
        as_of      | window | gross_revenue
        2026-10-24 | 7d     | 1.00
        2026-10-25 | 7d     | 21.00
        2026-10-26 | 7d     | 121.00
        """
    )


def test_when_midnight_itself_is_left_out():
    """Santiago, 6 September 2026: from 24:00 straight to 01:00."""
    told(
        """
        id | event | at                   | order | amount
        e1 | order | 2026-09-06T03:59:59Z | O-1   | 1
        e2 | order | 2026-09-06T04:00:00Z | O-2   | 10
        """,
        zone="America/Santiago",
    ).shows(
        """
        as_of      | window | gross_revenue
        2026-09-05 | 7d     | 1.00
        2026-09-06 | 7d     | 11.00
        """
    )


def test_when_a_whole_day_is_left_out():
    """Samoa had no 30 December 2011."""
    told(
        """
        id | event | at                   | order | amount
        e1 | order | 2011-12-30T09:59:59Z | O-1   | 1
        e2 | order | 2011-12-30T10:00:00Z | O-2   | 1
        """,
        zone="Pacific/Apia",
    ).shows(
        """
        as_of      | window   | first_order_day | last_order_day | mean_days_between_orders
        2012-01-01 | lifetime | 2011-12-29      | 2011-12-31     | 2
        """
    )


def test_zones_with_half_hours():
    """Kathmandu is 5 hours and 45 minutes ahead."""
    told(
        """
        id | event | at                   | order | amount
        e1 | order | 2026-03-01T18:14:59Z | O-1   | 1
        e2 | order | 2026-03-01T18:15:00Z | O-2   | 10
        """,
        zone="Asia/Kathmandu",
    ).shows(
        """
        as_of      | window | gross_revenue
        2026-03-01 | 7d     | 1.00
        2026-03-02 | 7d     | 11.00
        """
    )
