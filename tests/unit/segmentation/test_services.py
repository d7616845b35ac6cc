"""What is done for a customer: levels and additions together, and where the relationship stands."""

from fractions import Fraction

import pytest

from segmentation.services import INDIVIDUALISATION, KNOWLEDGE, Care, RelationshipRules, relationship

LEVEL = Care(
    actions=("a", "b"), offers=("x",), response_hours=8, callback_days=60, channel="desk", retention_level="social"
)


def test_additions_take_nothing_away():
    more = Care(
        actions=("b", "c"), playbooks=("p",), response_hours=24, complaint_hours=4, callback_days=7,
        channel="manager", retention_level="financial", owner="quality", dedicated_manager=True,
    )  # fmt: skip
    assert LEVEL.with_more(more) == Care(
        actions=("a", "b", "c"), offers=("x",), playbooks=("p",), response_hours=8, complaint_hours=4, callback_days=7,
        channel="manager", retention_level="social", owner="quality", dedicated_manager=True,
    )  # fmt: skip
    assert LEVEL.with_more(Care()) == LEVEL
    assert Care().with_more(LEVEL) == LEVEL


@pytest.mark.parametrize(
    ("known", "care", "strategy"),
    [
        (4, Care(), "product_sales"),
        (4, Care(dedicated_manager=True, callback_days=1, playbooks=("p",)), "service_support"),
        (5, Care(dedicated_manager=True, callback_days=1), "customer_marketing"),
        (5, Care(review_days=1, survey_days=1, retention_level="social"), "individualised_relationship"),
        (9, Care(retention_level="financial"), "customer_marketing"),
    ],
)
def test_the_strategy_follows_from_both_axes(known, care, strategy):
    assert relationship(known, care, RelationshipRules()).strategy == strategy


def test_the_axes_are_shares():
    care = Care(dedicated_manager=True, retention_level="structural")
    found = relationship(3, care, RelationshipRules())
    assert (found.knowledge, found.individualisation) == (
        Fraction(3, len(KNOWLEDGE)),
        Fraction(2, len(INDIVIDUALISATION)),
    )
    assert (found.name("en"), found.name("zh")) == ("Product sales", "产品销售")
