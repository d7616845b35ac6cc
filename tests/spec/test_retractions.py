"""A retraction takes one event back

A `retraction` takes back the `return`, `complaint` or `feedback` event of the same customer that has the id it names:
that event counts nothing, whichever of the two arrives first, and whichever occurred first.
On events of other types, or of other customers, it has no effect.
"""

from tests.spec.story import told


def test_each_of_the_three_can_be_taken_back():
    """What was retracted is gone from every figure."""
    told(
        """
        id | event      | at         | amount | score | retracts
        r1 | return     | 2026-03-01 | 10.00  |       |
        r2 | return     | 2026-03-01 | 1.00   |       |
        e1 | retraction | 2026-03-02 |        |       | r1
        """
    ).shows(
        """
        as_of      | window | returns | returned_amount
        2026-03-02 | 7d     | 1       | 1.00
        """
    )
    told(
        """
        id | event      | at         | score | retracts
        c1 | complaint  | 2026-03-01 |       |
        f1 | feedback   | 2026-03-01 | 3     |
        e1 | retraction | 2026-03-02 |       | c1
        e2 | retraction | 2026-03-02 |       | f1
        """
    ).shows(
        """
        as_of      | window | complaints | feedback_score
        2026-03-02 | 7d     | 0          | none
        """
    )


def test_it_needs_not_come_after_what_it_takes_back():
    """Not even by the producer's clock."""
    told(
        """
        id | event      | at         | retracts
        c1 | complaint  | 2026-03-05 |
        e1 | retraction | 2026-03-01 | c1
        """
    ).shows(
        """
        as_of      | window | complaints
        2026-03-05 | 7d     | 0
        """
    )


def test_taken_back_twice_is_taken_back_once():
    """A second retraction changes nothing."""
    told(
        """
        id | event      | at         | retracts
        c1 | complaint  | 2026-03-01 |
        c2 | complaint  | 2026-03-01 |
        e1 | retraction | 2026-03-02 | c1
        e2 | retraction | 2026-03-03 | c1
        """
    ).shows(
        """
        as_of      | window | complaints
        2026-03-03 | 7d     | 1
        """
    )


def test_it_reaches_no_other_customer():
    """Only the customer's own events can be taken back."""
    told(
        """
        id | event      | customer | at         | retracts
        c1 | complaint  | C-1      | 2026-03-01 |
        e1 | retraction | C-2      | 2026-03-02 | c1
        """
    ).shows(
        """
        as_of      | window | customer | complaints
        2026-03-02 | 7d     | C-1      | 1
        """
    )


def test_it_has_no_effect_on_other_types():
    """An order is taken back by a cancellation; a retraction cannot be retracted."""
    told(
        """
        id | event      | at         | order | amount | retracts
        o1 | order      | 2026-03-01 | O-1   | 100.00 |
        e1 | retraction | 2026-03-02 |       |        | o1
        """
    ).shows(
        """
        as_of      | window | orders | gross_revenue
        2026-03-02 | 7d     | 1      | 100.00
        """
    )
    told(
        """
        id | event      | at         | retracts
        c1 | complaint  | 2026-03-01 |
        e1 | retraction | 2026-03-02 | c1
        e2 | retraction | 2026-03-03 | e1
        """
    ).shows(
        """
        as_of      | window | complaints
        2026-03-03 | 7d     | 0
        """
    )
