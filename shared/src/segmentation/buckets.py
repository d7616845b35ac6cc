"""One customer's behaviour on one business day.

Laws: `merge` is commutative and associative, and `negate` undoes it; folding an event twice is
the caller's bug, not ours. Nothing here knows today's date, nor any customer's name.
"""

import operator
from fractions import Fraction
from typing import NamedTuple


class DayBucket(NamedTuple):
    """What counted on the day. Money in base minor units."""

    orders: int = 0
    gross_revenue: int = 0
    gross_profit: int = 0
    orders_with_cost: int = 0
    items: int = 0
    parcels: int = 0
    weight_grams: int = 0
    orders_on_time: int = 0
    orders_with_promise: int = 0
    """Orders of which both the promised and the delivered instant are known."""
    returns: int = 0
    returned_amount: int = 0
    complaints: int = 0
    feedbacks: int = 0
    feedback_total: Fraction | int = 0
    """Sum of the scores, exact."""


def merge(one: DayBucket, other: DayBucket) -> DayBucket:
    """Both together."""
    return DayBucket._make(map(operator.add, one, other))


def negate(bucket: DayBucket) -> DayBucket:
    """What takes a bucket back when merged."""
    return DayBucket._make(map(operator.neg, bucket))
