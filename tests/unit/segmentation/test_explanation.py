"""What an explanation says in the corners; that it agrees with the decision is in tests/properties."""

from datetime import UTC, date, datetime, timedelta

from tests.support.ledgers import DEFAULT_POLICY

from segmentation import policy as policies
from segmentation.assessment import assess
from segmentation.buckets import DayBucket
from segmentation.explanation import DecidedBy, Explanation, explain
from segmentation.fields import CustomerId
from segmentation.metrics import FAR_FUTURE, BucketTable, roll
from segmentation.overrides import Override
from segmentation.segments import Lifecycle
from segmentation.tiering import CutOffs, Standing, Tier
from segmentation.traits import NO_DESCRIPTION, Description

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = date(2026, 3, 1)
A = CustomerId("A")
CUTOFFS = CutOffs(Standing(10_000, CustomerId("X")), Standing(1_000, CustomerId("X")))


def explained(
    *days: int,
    policy: str = DEFAULT_POLICY,
    tier: Tier = Tier.C,
    override: Override | None = None,
    bucket: DayBucket | None = None,
    description: Description = NO_DESCRIPTION,
) -> Explanation:
    """The explanation of a customer who ordered so many days ago."""
    one = bucket or DayBucket(orders=1, gross_revenue=100)
    parsed = policies.parse(policy, version=1)
    rolled = roll(BucketTable.of({A: [(DAY - timedelta(days=ago), one) for ago in days]}), DAY)
    by_hand = {A: override} if override else None
    described = {A: description}
    (snapshot,) = assess(rolled, {}, parsed, now=NOW, computed={A: tier}, by_hand=by_hand, described=described)
    return explain(rolled, snapshot, parsed, CUTOFFS, description)


def test_a_rhythm_of_its_own_says_when_silence_moves_it():
    lifecycle = explained(100, 80, 60, 40).lifecycle
    assert (lifecycle.stage, lifecycle.rhythm_days, lifecycle.rhythm_is_own) == (Lifecycle.ACTIVE, 20, True)
    assert lifecycle.recency_days == 40
    assert {each.stage: each.days for each in lifecycle.boundaries} == {
        Lifecycle.ACTIVE: 60,
        Lifecycle.AT_RISK: 60,
        Lifecycle.DORMANT: 120,
        Lifecycle.LOST: 365,
    }
    # More than 60 days without an order: on the 61st.
    assert lifecycle.moves == (DAY + timedelta(days=21), Lifecycle.AT_RISK)


def test_a_boundary_that_changes_nothing_is_no_move():
    """At risk already, it is no longer new: the stage stays until it is dormant."""
    policy = DEFAULT_POLICY.replace("new_days = 60", "new_days = 200")
    lifecycle = explained(121, 100, policy=policy).lifecycle
    assert lifecycle.stage is Lifecycle.AT_RISK
    assert lifecycle.moves == (DAY + timedelta(days=27), Lifecycle.DORMANT)


def test_what_is_lost_moves_no_more():
    lifecycle = explained(400).lifecycle
    assert (lifecycle.stage, lifecycle.moves) == (Lifecycle.LOST, None)


def test_a_boundary_beyond_the_calendar_is_its_last_day():
    policy = DEFAULT_POLICY.replace("dormant_after_rhythms = 6", "dormant_after_rhythms = 3650")
    policy = policy.replace("longest_rhythm_days = 120", "longest_rhythm_days = 3650")
    lifecycle = explained(3_650, 0, policy=policy).lifecycle
    assert {each.stage: each.opens_on for each in lifecycle.boundaries}[Lifecycle.DORMANT].toordinal() == FAR_FUTURE


def test_a_rate_without_a_denominator_has_no_value():
    """Complaints of a customer without orders are no rate, and never hold."""
    tried = explained(0, bucket=DayBucket(complaints=3), tier=Tier.UNRATED).segment.tried
    (counted, rate) = tried[2].comparisons
    assert (counted.fact, counted.value, counted.condition, counted.holds) == ("complaints_90d", "3", ">= 3", True)
    assert (rate.fact, rate.value, rate.condition, rate.holds) == ("complaint_rate_90d", None, ">= 0.25", False)
    assert not tried[2].holds


def test_without_a_value_the_gap_is_counted_from_nothing():
    """On gross profit, an order without a cost gives none."""
    tier = explained(0, policy=DEFAULT_POLICY.replace('"net_revenue"', '"gross_profit"'), tier=Tier.UNRATED).tier
    assert (tier.value, tier.gaps.next, tier.gaps.previous) == (None, (Tier.C, 1), None)


def test_an_override_is_told_apart_from_what_it_stands_over():
    """The row of the policy is told all the same: it decides again when the override ends."""
    override = Override(
        tier=None, service_level="vip", reason="r", author="a", expires_on=DAY + timedelta(days=1), set_at=NOW
    )
    explanation = explained(0, override=override)
    level = explanation.service_level
    assert (level.code, level.decided_by, level.tried[-1].code) == ("vip", DecidedBy.OVERRIDE, "standard")
    assert (explanation.tier.decided_by, explanation.override) == (DecidedBy.RANKING, override)


def test_who_came_back_is_active_again_so_long_after_its_return():
    """Known for long enough anyway: what counts is the order day that ended the silence."""
    lifecycle = explained(400, 395, 10).lifecycle
    assert (lifecycle.stage, lifecycle.came_back_on) == (Lifecycle.WON_BACK, DAY - timedelta(days=10))
    opens = {each.stage: (each.opens_on, each.days) for each in lifecycle.boundaries}
    assert opens[Lifecycle.ACTIVE] == (DAY + timedelta(days=50), 60)
    assert lifecycle.moves == (DAY + timedelta(days=50), Lifecycle.ACTIVE)


def test_a_newcomer_who_came_back_already_is_won_back_next():
    """Silent for longer than six rhythms of a week within its first 60 days: no boundary of silence, and yet a move."""
    lifecycle = explained(55, 54, 1).lifecycle
    assert (lifecycle.stage, lifecycle.came_back_on) == (Lifecycle.NEW, DAY - timedelta(days=1))
    assert lifecycle.moves == (DAY + timedelta(days=5), Lifecycle.WON_BACK)


def test_the_value_level_and_the_grade_say_what_made_them():
    explanation = explained(0, tier=Tier.A)
    value, grade = explanation.value, explanation.grade
    assert (value.level, value.contribution, value.potential) == ("high", "high", "medium")
    assert (value.size, value.frequency) == ("small", "low")
    assert (grade.code, [each.holds for each in grade.tried]) == ("key", [False, True])
    assert [each.value for each in grade.tried[0].comparisons] == ["high", "small"]


def test_conditions_on_what_a_customer_says_of_itself_tell_what_that_is():
    """All its needs, where a row asks for one of some; and nothing where it said nothing."""
    when = 'when = { needs = ["green", "smart"], region = ["N"] }'
    row = f'\n[[segments]]\ncode = "green"\nname = {{ en = "Green", zh = "绿" }}\n{when}\n'
    policy = DEFAULT_POLICY.replace("\n[[segments]]", f"{row}\n[[segments]]", 1)
    needy = Description(needs=("safe", "smart", "timely"), region="N")
    for description, compared in (
        (needy, [("safe, smart, timely", True), ("N", True)]),
        (NO_DESCRIPTION, [(None, False), (None, False)]),
    ):
        tried = explained(0, policy=policy, description=description).segment.tried[0]
        assert [(each.value, each.holds) for each in tried.comparisons] == compared
        assert [each.condition for each in tried.comparisons] == ["green, smart", "N"]
