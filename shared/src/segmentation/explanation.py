"""Why a customer stands where it stands: what was compared with what, by the code that decided.

Laws: nothing is decided here: every decision is the one that `assessment.weigh` makes, and every number is one that it
compared; the same figures, policy and history give the same snapshot and the explanation of it.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction

from segmentation import assessment, segments
from segmentation.assessment import Snapshot, Weighed
from segmentation.drivers import Driver
from segmentation.fields import CustomerId
from segmentation.metrics import FAR_FUTURE, FAR_PAST, Metrics
from segmentation.overrides import Override
from segmentation.policy import Decisions, Policy, Reason, Tried
from segmentation.risk import Outlooks
from segmentation.scoring import Model
from segmentation.segments import STAGES, Lifecycle, LifecycleRules, Stages
from segmentation.services import Named
from segmentation.tiering import Basis, CutOffs, Gaps, Tier
from segmentation.traits import NO_DESCRIPTION, Description
from segmentation.worth import LEVELS


class DecidedBy(enum.StrEnum):
    """What made a tier or a service level the one that counts, or what a churn warning rests on."""

    RANKING = "ranking"
    GRACE = "grace"
    POLICY = "policy"
    MODEL = "model"
    LIFECYCLE = "lifecycle"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class TierExplained:
    """The value tier: the value, what it was held against, and how far the neighbours are."""

    computed: Tier
    effective: Tier
    decided_by: DecidedBy
    since: date
    basis: Basis
    value: int | None
    """Base minor units, or orders; None where there is none."""
    cutoffs: CutOffs
    gaps: Gaps
    """Of the computed tier."""
    grace_days: int
    demotion_due: date | None


@dataclass(frozen=True, slots=True)
class StageBoundary:
    """Where a stage begins by silence, or by being known long enough."""

    stage: Lifecycle
    opens_on: date
    days: int
    """Since the last order; for `active`, since the first one, or since it came back."""


@dataclass(frozen=True, slots=True)
class LifecycleExplained:
    """The stage of the lifecycle, by the customer's own rhythm."""

    stage: Lifecycle
    first_order_day: date | None
    last_order_day: date | None
    recency_days: int | None
    rhythm_days: int
    rhythm_is_own: bool
    """False where the policy's default stands for it, before there are two order days."""
    boundaries: Sequence[StageBoundary]
    """Empty without an order."""
    came_back_on: date | None
    """The last order day after a silence that had made it dormant or lost; None where there was none."""
    moves: tuple[date, Lifecycle] | None
    """The day on which silence alone leads to another stage, and to which; None for never."""


@dataclass(frozen=True, slots=True)
class ValueExplained:
    """The value level: contribution and potential that make it; and the classes by revenue and by orders."""

    level: str
    contribution: str
    potential: str
    size: str
    frequency: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a model says of the customer."""

    model: Model
    churn_probability: float
    behaviour: Named
    confidence: float
    expected_value: int
    """Net revenue of the model's horizon, in base minor units."""
    drivers: Sequence[Driver]
    """The main reasons of the churn probability, the strongest first."""


@dataclass(frozen=True, slots=True)
class RiskExplained:
    """The churn warning, and what it rests on."""

    warning: bool
    decided_by: DecidedBy
    """The model, or the lifecycle where no model knows the customer."""
    warn_from: Fraction
    """The churn probability from which on a model warns."""
    forecast: Forecast | None
    """None where no model knows the customer."""


@dataclass(frozen=True, slots=True)
class RowExplained:
    """What a decision table decided, and every row that it tried for that."""

    code: str
    decided_by: DecidedBy
    reasons: Sequence[Reason]
    tried: Sequence[Tried]
    """From the top; the last one is the row that decided, or would have without an override."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every decision about a customer, with what it was made from."""

    customer_id: CustomerId
    as_of: date
    tier: TierExplained
    lifecycle: LifecycleExplained
    value: ValueExplained
    grade: RowExplained
    risk: RiskExplained
    segment: RowExplained
    """By the policy; the segment that is shown where no model knows the customer."""
    service_level: RowExplained
    override: Override | None
    """Where it counts."""
    policy_version: int
    model_version: int


def explain(
    metrics: Metrics,
    snapshot: Snapshot,
    policy: Policy,
    cutoffs: CutOffs,
    description: Description = NO_DESCRIPTION,
    *,
    outlooks: Outlooks | None = None,
) -> Explanation:
    """Explains a snapshot.

    Args:
        metrics: Of the customer alone, as of the day that is explained.
        snapshot: What stands on that day, by this policy.
        policy: In force.
        cutoffs: As published.
        description: What the customer's profile says.
        outlooks: What the model in force says of the customer; None without one.
    """
    customer_id, as_of = snapshot.customer_id, metrics.as_of
    weighed = assessment.weigh(
        metrics, {customer_id: snapshot}, policy, described={customer_id: description}, outlooks=outlooks
    )
    override = weighed.overrides[0]
    counting = override if override is not None and override.counts(as_of) else None
    level, level_reasons = assessment.granted_level(weighed, policy, as_of, 0)
    by_person = counting is not None and counting.level_in(policy) is not None
    return Explanation(
        customer_id=customer_id,
        as_of=as_of,
        tier=_tier(metrics, weighed, snapshot, policy, cutoffs),
        lifecycle=_lifecycle(metrics, weighed, policy.lifecycle),
        value=_value(weighed),
        risk=_risk(weighed, policy),
        grade=_decided(weighed.graded),
        segment=_decided(weighed.segmented),
        service_level=RowExplained(
            level, DecidedBy.OVERRIDE if by_person else DecidedBy.POLICY, level_reasons, weighed.granted.tried(0)
        ),
        override=counting,
        policy_version=policy.version,
        model_version=snapshot.model_version,
    )


def _decided(decisions: Decisions) -> RowExplained:
    return RowExplained(decisions.code(0), DecidedBy.POLICY, decisions.reasons(0), decisions.tried(0))


def _value(weighed: Weighed) -> ValueExplained:
    facets, worth = weighed.facets[0], weighed.worth
    contribution, potential = LEVELS[int(worth.contribution[0])], LEVELS[int(worth.potential[0])]
    return ValueExplained(facets.value_level, contribution, potential, facets.size, facets.frequency)


def _risk(weighed: Weighed, policy: Policy) -> RiskExplained:
    outlooks = weighed.outlooks
    outlook = None if outlooks is None else outlooks.outlook(0)
    forecast = None
    if outlooks is not None and outlook is not None:
        forecast = Forecast(
            outlooks.model,
            outlook.churn_probability,
            outlooks.model.segments[int(outlooks.segment[0])],
            outlook.confidence,
            outlooks.expected[0],
            outlooks.drivers(0),
        )
    decided_by = DecidedBy.LIFECYCLE if forecast is None else DecidedBy.MODEL
    return RiskExplained(bool(weighed.warned[0]), decided_by, policy.risk.warn_from, forecast)


def _tier(metrics: Metrics, weighed: Weighed, snapshot: Snapshot, policy: Policy, cutoffs: CutOffs) -> TierExplained:
    effective, demotion_due = weighed.tiers[0]
    computed, override = weighed.histories[0].computed, weighed.overrides[0]
    value = assessment.ranked_value(metrics, policy.tiers.basis, 0)
    if override is not None and override.tier is not None and override.counts(metrics.as_of):
        decided_by = DecidedBy.OVERRIDE
    else:
        decided_by = DecidedBy.RANKING if demotion_due is None else DecidedBy.GRACE
    return TierExplained(
        computed=computed,
        effective=effective,
        decided_by=decided_by,
        since=snapshot.tier_since,
        basis=policy.tiers.basis,
        value=value,
        cutoffs=cutoffs,
        gaps=cutoffs.gaps(value, snapshot.customer_id),
        grace_days=policy.tiers.demotion_grace_days,
        demotion_due=demotion_due,
    )


def _lifecycle(metrics: Metrics, weighed: Weighed, rules: LifecycleRules) -> LifecycleExplained:
    stages, today = weighed.stages, metrics.as_of.toordinal()
    stage = STAGES[int(stages.stage[0])]
    if not metrics.lifetime_orders[0]:
        return LifecycleExplained(
            *(stage, None, None, None, int(stages.rhythm[0])),
            rhythm_is_own=False,
            boundaries=(),
            came_back_on=None,
            moves=None,
        )
    first, last = int(metrics.first_order_day[0]), int(metrics.last_order_day[0])
    comeback = int(stages.comeback[0])
    came_back = comeback > FAR_PAST
    steady_last = came_back and comeback + rules.won_back_days > first + rules.new_days
    settled_from = comeback if steady_last else first
    boundaries = [
        # A stage opens on the day after so many days without an order, `active` after so many days at all.
        StageBoundary(name, date.fromordinal(day), day - (settled_from if name is Lifecycle.ACTIVE else last + 1))
        for name, opens_on in stages.opens_on.items()
        for day in (min(int(opens_on[0]), FAR_FUTURE),)
    ]
    return LifecycleExplained(
        stage=stage,
        first_order_day=date.fromordinal(first),
        last_order_day=date.fromordinal(last),
        recency_days=today - last,
        rhythm_days=int(stages.rhythm[0]),
        rhythm_is_own=int(metrics.order_days[0]) > 1,
        boundaries=boundaries,
        came_back_on=date.fromordinal(comeback) if came_back else None,
        moves=_moves(metrics, stages, rules),
    )


def _moves(metrics: Metrics, stages: Stages, rules: LifecycleRules) -> tuple[date, Lifecycle] | None:
    """The next day on which silence alone leads to another stage; not every boundary does."""
    then, stage = stages, int(stages.stage[0])
    while int(then.stage[0]) == stage and int(then.changes_on[0]) < FAR_FUTURE:
        on = date.fromordinal(int(then.changes_on[0]))
        then = segments.stages(replace(metrics, as_of=on), rules)
        if int(then.stage[0]) != stage:
            return on, STAGES[int(then.stage[0])]
    return None
