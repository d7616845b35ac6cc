"""Money is converted at the day's rate and rounded once

The rate of the event's business day applies, or the latest before it.
A converted amount is rounded half-even to the base currency's minor unit, once per amount; sums are sums of rounded
amounts.
Gross profit is the sum of amount less cost, in the order's currency, each converted and rounded once, over the orders
that have a cost; without any there is none.
Answers show money as a decimal string with exactly the base currency's decimals, never `-0`.
"""

from tests.spec.story import told


def test_the_latest_rate_on_or_before_the_day():
    """A rate holds from its day until the next one."""
    told(
        """
        id | event | at         | order | amount | currency
        e1 | order | 2026-03-01 | O-1   | 1.00   | USD
        e2 | order | 2026-03-04 | O-2   | 1.00   | USD
        e3 | order | 2026-03-05 | O-3   | 1.00   | USD
        e4 | order | 2026-09-05 | O-4   | 1.00   | USD
        """,
        rates="""
        currency | day        | rate
        USD      | 2026-03-05 | 8
        USD      | 2026-03-01 | 7.1
        EUR      | 2026-03-02 | 9
        """,
    ).shows(
        """
        as_of      | window | gross_revenue
        2026-03-01 | 365d   | 7.10
        2026-03-04 | 365d   | 14.20
        2026-03-05 | 365d   | 22.20
        2026-09-05 | 365d   | 30.20
        """
    )


def test_the_rate_is_that_of_the_business_day_not_of_the_message():
    """An order of February told in March has February's rate; a return has that of its own day."""
    told(
        """
        id | event  | at         | ordered    | order | amount | currency
        e1 | order  | 2026-03-10 | 2026-02-10 | O-1   | 1.00   | USD
        e2 | return | 2026-03-10 |            | O-1   | 1.00   | USD
        """,
        rates="""
        currency | day        | rate
        USD      | 2026-02-01 | 7
        USD      | 2026-03-01 | 8
        """,
    ).shows(
        """
        as_of      | window | gross_revenue | returned_amount | net_revenue
        2026-03-10 | 30d    | 7.00          | 8.00            | -1.00
        """
    )


def test_halves_go_to_the_even_neighbour():
    """Half a minor unit goes up or down, whichever is even."""
    told(
        """
        id | event | at         | order | amount | currency
        e1 | order | 2026-03-01 | O-1   | 0.01   | USD
        e2 | order | 2026-03-02 | O-2   | 0.03   | USD
        e3 | order | 2026-03-03 | O-3   | 0.05   | USD
        """,
        rates="""
        currency | day        | rate
        USD      | 2026-03-01 | 0.5
        """,
    ).shows(
        """
        as_of      | window   | net_revenue
        2026-03-01 | lifetime | 0.00
        2026-03-02 | lifetime | 0.02
        2026-03-03 | lifetime | 0.04
        """
    )


def test_each_amount_is_rounded_by_itself():
    """Three times 0.004 rounded is nothing, though the sum would be 0.01."""
    told(
        """
        id | event | at         | order | amount | currency
        e1 | order | 2026-03-01 | O-1   | 0.01   | USD
        e2 | order | 2026-03-01 | O-2   | 0.01   | USD
        e3 | order | 2026-03-01 | O-3   | 0.01   | USD
        """,
        rates="""
        currency | day        | rate
        USD      | 2026-03-01 | 0.4
        """,
    ).shows(
        """
        as_of      | window | orders | gross_revenue | average_order_value
        2026-03-01 | 7d     | 3      | 0.00          | 0.00
        """
    )


def test_profit_is_converted_as_one_amount():
    """Amount less cost, then converted: 0.05 - 0.04 = 0.01 USD is 0.005 CNY, rounded to 0.00."""
    told(
        """
        id | event | at         | order | amount | cost | currency
        e1 | order | 2026-03-01 | O-1   | 0.05   | 0.04 | USD
        e2 | order | 2026-03-02 | O-2   | 0.05   |      | USD
        e3 | order | 2026-03-09 | O-3   | 0.05   |      | USD
        """,
        rates="""
        currency | day        | rate
        USD      | 2026-03-01 | 0.5
        """,
    ).shows(
        """
        as_of      | window | gross_revenue | gross_profit
        2026-03-01 | 7d     | 0.02          | 0.00
        2026-03-02 | 7d     | 0.04          | 0.00
        2026-03-09 | 7d     | 0.02          | none
        """
    )


def test_profit_may_be_negative():
    """Halves below zero go to the even neighbour too, and there is no `-0.00`."""
    told(
        """
        id | event | at         | order | amount | cost  | currency
        e1 | order | 2026-03-01 | O-1   | 1.00   | 1.01  | USD
        e2 | order | 2026-03-02 | O-2   | 1.00   | 1.03  | USD
        e3 | order | 2026-03-03 | O-3   | 0      | 10.00 | CNY
        """,
        rates="""
        currency | day        | rate
        USD      | 2026-03-01 | 0.5
        """,
    ).shows(
        """
        as_of      | window | gross_profit
        2026-03-01 | 7d     | 0.00
        2026-03-02 | 7d     | -0.02
        2026-03-03 | 7d     | -10.02
        """
    )


def test_as_many_decimals_as_the_base_currency_has():
    """Yen have none, dinars three."""
    told(
        """
        id | event  | at         | order | amount  | currency
        e1 | order  | 2026-03-01 | O-1   | 2.50    | CNY
        e2 | order  | 2026-03-01 | O-2   | 1000    | JPY
        e3 | return | 2026-03-01 |       | 0.001   | KWD
        """,
        base="JPY",
        rates="""
        currency | day        | rate
        CNY      | 2026-01-01 | 21
        KWD      | 2026-01-01 | 500
        """,
    ).shows(
        """
        as_of      | window | gross_revenue | returned_amount | net_revenue | average_order_value
        2026-03-01 | 7d     | 1052          | 0               | 1052        | 526
        """
    )
    told(
        """
        id | event | at         | order | amount | currency
        e1 | order | 2026-03-01 | O-1   | 10.00  | CNY
        e2 | order | 2026-03-01 | O-2   | 1.005  | KWD
        """,
        base="KWD",
        rates="""
        currency | day        | rate
        CNY      | 2026-01-01 | 0.042345678901
        """,
    ).shows(
        """
        as_of      | window | gross_revenue
        2026-03-01 | 7d     | 1.428
        """
    )


def test_the_mean_is_rounded_half_even_as_money():
    """0.01 over two orders is 0.00, 0.03 over two is 0.02."""
    told(
        """
        id | event | at         | order | amount
        e1 | order | 2026-03-01 | O-1   | 0.01
        e2 | order | 2026-03-01 | O-2   | 0
        e3 | order | 2026-03-10 | O-3   | 0.03
        e4 | order | 2026-03-10 | O-4   | 0
        """
    ).shows(
        """
        as_of      | window | average_order_value
        2026-03-01 | 7d     | 0.00
        2026-03-10 | 7d     | 0.02
        """
    )
