"""A churn warning says who may be lost and can still be kept

Where a model knows the customer, there is a warning while its churn probability is at least `warn_from` of the policy's
`[risk]` (0.7 as shipped) and the customer is new, active, won back or at risk. Where none does, there is one while the
customer is at risk by its own rhythm. It follows from the day alone.
The model of these examples says: the odds of churn are days since the last order, and one, to 30.7; and it calls
`troubled` who complains about more than a quarter of the orders, everybody else `content`.
"""

from importlib import resources

from tests.spec.story import told
from tests.support.models import a_model

from segmentation import policy as policies

DEFAULT = resources.files("segmentation").joinpath("policies/default.toml").read_text()
POLICY = policies.parse(DEFAULT, version=1)
MODEL = a_model()


def test_without_a_model_the_lifecycle_warns():
    """One order, so a rhythm of 30 days is assumed: at risk after three of them, dormant after six."""
    told(
        """
        event | at         | order | amount
        order | 2026-01-01 | O-1   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | lifecycle | churn | warning | shown    | why
        2026-04-01 | C-1      | C    | active    | none  | no      | standard | tier C
        2026-04-02 | C-1      | C    | at_risk   | none  | yes     | standard | churn warning lifecycle at_risk
        2026-06-30 | C-1      | C    | at_risk   | none  | yes     | standard | churn warning lifecycle at_risk
        2026-07-01 | C-1      | C    | dormant   | none  | no      | inactive | tier C
        """,
        POLICY,
    )


def test_a_model_warns_by_its_probability():
    """In whole percents: 69 days of silence are 69.5, held against as 70. Who is dormant is warned of no more."""
    told(
        """
        event | at         | order | amount
        order | 2026-01-01 | O-1   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | lifecycle | churn | warning | shown   | why
        2026-01-01 | C-1      | C    | new       | 0.03  | no      | content | tier C
        2026-03-11 | C-1      | C    | active    | 0.70  | yes     | content | churn warning churn probability 0.70
        2026-03-10 | C-1      | C    | active    | 0.69  | no      | content | tier C
        2026-04-02 | C-1      | C    | at_risk   | 0.75  | yes     | content | churn warning churn probability 0.75
        2026-07-01 | C-1      | C    | dormant   | 0.86  | no      | content | tier C
        """,
        POLICY,
        MODEL,
    )


def test_whom_the_model_does_not_know_the_rules_decide():
    """Nobody is known to it before the first order."""
    told(
        """
        event     | at         | order | amount
        complaint | 2026-01-01 |       |
        order     | 2026-01-02 | O-1   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier    | lifecycle | churn | warning | segment  | shown
        2026-01-01 | C-1      | unrated | prospect  | none  | no      | newcomer | newcomer
        2026-01-02 | C-1      | C       | new       | 0.03  | no      | newcomer | troubled
        """,
        POLICY,
        MODEL,
    )
