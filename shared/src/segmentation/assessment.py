"""The one composed decision: metrics, traits, computed tier, outlook, policy and what was before -> a snapshot.

Laws: it is pure; the reasons come from the code that decides; assessing again with nothing new
changes nothing; whatever in a snapshot would change by the passing of time alone says on which day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from msgspec import Struct

from segmentation import facts, segments, worth
from segmentation import policy as policies
from segmentation.conditions import Decisions, Facts, Reason
from segmentation.fields import CustomerId
from segmentation.metrics import Column, Metrics
from segmentation.overrides import ByHand, Override, effective_tier
from segmentation.policy import GRADES, TIER_WINDOW, Policy
from segmentation.risk import CHURN_PROBABILITY, Outlook, Outlooks, warned
from segmentation.segments import STAGES, Lifecycle, Stages
from segmentation.tiering import RANK, Basis, Tier, TierHistory
from segmentation.traits import NO_DESCRIPTION, NO_ORDERS, Description, OrderTraits
from segmentation.worth import LEVELS, SIZES, Expected, Worth


class Facets(Struct, frozen=True, omit_defaults=True):
    """What a customer is, beside tier, lifecycle and segment; for the policy, and to find customers by."""

    industry: str | None = None
    subject_type: str | None = None
    region: str | None = None
    channel: str | None = None
    needs: tuple[str, ...] = ()
    """Declared, or shown by the services ordered; in order."""
    value_level: str = LEVELS[-1]
    size: str = SIZES[-1]
    frequency: str = LEVELS[-1]
    grade: str = GRADES[-1]
    known: int = 0
    """How many of `services.KNOWLEDGE` are known of the customer."""


Additions = tuple[tuple[str, tuple[Reason, ...]], ...]
"""Codes of what is added to a service level, each with why; in the policy's order."""


class Snapshot(Struct, frozen=True, kw_only=True):
    """A stored assessment."""

    customer_id: CustomerId
    as_of: date
    due_on: date
    """The next business day on which it would change if nothing happened, but for what a model says: that is another
    every day."""
    value: int | None
    """What the customer is ranked by: base minor units, or orders; None where there is none."""
    history: TierHistory
    tier: Tier
    """The effective one."""
    tier_since: date
    lifecycle: Lifecycle
    segment: str
    """By the policy's segment table."""
    segment_since: date
    """Since when the segment that is shown has stood."""
    segment_reasons: tuple[Reason, ...]
    service_level: str
    service_reasons: tuple[Reason, ...]
    policy_version: int
    updated_at: datetime
    override: Override | None = None
    """As it was set, expired or not: only a day can say whether it counts."""
    facets: Facets = Facets()
    additions: Additions = ()
    order_traits: OrderTraits | None = None
    """What the counting orders say; None where that has to be found out. No part of the answer."""
    model_version: int = 0
    """Of the model in force, whether it knows the customer or not; 0 for none."""
    outlook: Outlook | None = None
    """What that model says; None where it does not know the customer."""
    expected_value: int | None = None
    """What it expects the customer to bring, in base minor units. No part of the answer."""
    churn_warning: bool = False

    @property
    def shown_segment(self) -> str:
        """The segment of the answer: the model's where it knows the customer, else the policy's."""
        return self.segment if self.outlook is None else self.outlook.behaviour

    @property
    def shown_segment_reasons(self) -> tuple[Reason, ...]:
        """What put it there."""
        if self.outlook is None:
            return self.segment_reasons
        return (Reason("behaviour", self.outlook.behaviour, f"model:{self.model_version}"),)

    def reasons(self, language: str) -> list[str]:
        """Why it stands so, in words: of the segment, of the service level, and of a churn warning."""
        reasons = [reason.text(language) for reason in self.shown_segment_reasons + self.service_reasons]
        if self.churn_warning:
            cause = Reason("lifecycle", self.lifecycle)
            if self.outlook is not None:
                cause = Reason(CHURN_PROBABILITY, f"{self.outlook.churn_probability:.2f}")
            reasons.append(Reason("churn_warning", cause.text(language)).text(language))
        return reasons

    def overtaken(self, as_of: date, policy_version: int, model_version: int) -> bool:
        """Whether another would stand by the passing of days, by another policy or by another model."""
        return (
            self.due_on <= as_of
            or self.as_of > as_of  # the machine's clock was put back
            or self.policy_version != policy_version
            or self.model_version != model_version
            or (self.outlook is not None and self.as_of < as_of)
        )

    @property
    def overridden(self) -> Override | None:
        """The override, where it counts."""
        return self.override if self.override is not None and self.override.counts(self.as_of) else None


def ranked_value(metrics: Metrics, basis: Basis, row: int) -> int | None:
    """A customer's value on the policy's basis over 365 days."""
    window = metrics.windows[TIER_WINDOW]
    if basis is Basis.ORDERS:
        return int(window["orders"][row])
    if basis is Basis.GROSS_PROFIT:
        return int(window["gross_profit"][row]) if window["orders_with_cost"][row] else None
    return int(window["net_revenue"][row])


@dataclass(frozen=True, slots=True)
class Weighed:
    """All that decides over some customers: their snapshots are made from it, and so are explanations."""

    histories: Sequence[TierHistory]
    tiers: Sequence[tuple[Tier, date | None]]
    """The effective one, and the day on which it will fall by its grace."""
    overrides: Sequence[Override | None]
    """As they were set, expired or not."""
    order_traits: Sequence[OrderTraits]
    facets: Sequence[Facets]
    stages: Stages
    worth: Worth
    outlooks: Outlooks | None
    warned: Column
    graded: Decisions
    segmented: Decisions
    granted: Decisions
    added: Sequence[Additions]


def weigh(
    metrics: Metrics,
    previous: Mapping[CustomerId, Snapshot],
    policy: Policy,
    *,
    computed: Mapping[CustomerId, Tier] | None = None,
    by_hand: ByHand | None = None,
    described: Mapping[CustomerId, Description] | None = None,
    ordered: Mapping[CustomerId, OrderTraits] | None = None,
    outlooks: Outlooks | None = None,
) -> Weighed:
    """Decides over every customer of the metrics as of their day; the arguments are those of `assess`."""
    as_of, customers = metrics.as_of, metrics.customer_ids
    newly, by_hand, described, ordered = computed or {}, by_hand or {}, described or {}, ordered or {}
    descriptions = [described.get(customer_id, NO_DESCRIPTION) for customer_id in customers]
    traits: list[OrderTraits] = []
    histories: list[TierHistory] = []
    tiers: list[tuple[Tier, date | None]] = []
    overrides: list[Override | None] = []
    for customer_id in customers:
        before = previous.get(customer_id)
        history = before.history.rewound(as_of) if before else TierHistory()
        if customer_id in newly:
            history = history.moved(newly[customer_id], as_of)
        histories.append(history)
        standing = before.order_traits if before else None
        traits.append(ordered.get(customer_id, NO_ORDERS if standing is None else standing))
        order = by_hand.get(customer_id, before and before.override)
        overrides.append(order if isinstance(order, Override) else None)
        tiers.append(effective_tier(history, overrides[-1], as_of, policy.tiers.demotion_grace_days))

    stages = segments.stages(metrics, policy.lifecycle)
    ranks = np.array([RANK[tier] for tier, _ in tiers], dtype=np.int64)
    expected = None if outlooks is None else Expected(outlooks.model.horizon_days, outlooks.known, outlooks.expected)
    weights = worth.weigh(metrics, ranks, stages.stage, policy.worth, unit=policy.unit, expected=expected)
    warnings = warned(stages.stage, outlooks, policy.risk)
    plain = [facts.plain_of(description, each, policy) for description, each in zip(descriptions, traits, strict=True)]
    found = facts.gather(
        *(metrics, ranks, stages.stage),
        weights=weights,
        warnings=warnings,
        outlooks=outlooks,
        plain=plain,
        descriptions=descriptions,
        policy=policy,
    )
    graded = policies.decide(policy.grade_table, found, len(customers))
    found = found.with_codes("grade", _positions(policy.grade_table, GRADES)[graded.chosen], GRADES)
    segmented = policies.decide(policy.segment_table, found, len(customers))
    codes = tuple(policy.segments)
    found = found.with_codes("segment", _positions(policy.segment_table, codes)[segmented.chosen], codes)
    granted = policies.decide(policy.grant_table, found, len(customers))
    held = policies.holding(policy.addition_table, found, len(customers))

    regular = (metrics.order_days >= policy.worth.order_days_needed).tolist()
    value_levels = [LEVELS[position] for position in weights.value_level.tolist()]
    sizes = [SIZES[position] for position in weights.size.tolist()]
    frequencies = [LEVELS[position] for position in weights.frequency.tolist()]
    facets = [
        Facets(
            *plain[row],
            value_levels[row],
            sizes[row],
            frequencies[row],
            graded.code(row),
            facts.known_of(descriptions[row], plain[row]) + regular[row],
        )
        for row in range(len(customers))
    ]
    added = [_additions(policy, found, row, positions) if positions else () for row, positions in enumerate(held)]
    return Weighed(
        *(histories, tiers, overrides, traits, facets, stages, weights, outlooks, warnings),
        *(graded, segmented, granted, added),
    )


def assess(
    metrics: Metrics,
    previous: Mapping[CustomerId, Snapshot],
    policy: Policy,
    *,
    now: datetime,
    computed: Mapping[CustomerId, Tier] | None = None,
    by_hand: ByHand | None = None,
    described: Mapping[CustomerId, Description] | None = None,
    ordered: Mapping[CustomerId, OrderTraits] | None = None,
    outlooks: Outlooks | None = None,
    model_version: int = 0,
) -> list[Snapshot]:
    """Assesses every customer of the metrics as of their day.

    Args:
        metrics: Rolled afresh.
        previous: What stands of each; nobody is required to have one.
        policy: In force.
        now: The machine's clock, for `updated_at`.
        computed: Tiers newly computed from the ranking of everyone. Others keep the one that stands:
            a tier is relative, so only a look at everyone can move it.
        by_hand: Overrides newly set or ended by people. Others keep the one that stands.
        described: What profiles say, of everyone who has one.
        ordered: What counting orders say, where that is not as it stands.
        outlooks: What the model in force says of the same customers on the same day; None without one.
        model_version: Of the model in force, which may be one that cannot be used here; 0 for none.
    """
    as_of, customers = metrics.as_of, metrics.customer_ids
    weighed = weigh(
        *(metrics, previous, policy),
        computed=computed,
        by_hand=by_hand,
        described=described,
        ordered=ordered,
        outlooks=outlooks,
    )
    stages, segmented = weighed.stages, weighed.segmented
    due_on = stages.changes_on
    for window in policy.windows:
        due_on = np.minimum(due_on, metrics.changes_on[window])

    snapshots: list[Snapshot] = []
    for row, customer_id in enumerate(customers):
        before = previous.get(customer_id)
        tier, demotion_due = weighed.tiers[row]
        override = weighed.overrides[row]
        segment = segmented.code(row)
        outlook = None if outlooks is None else outlooks.outlook(row)
        shown = (False, segment) if outlook is None else (True, outlook.behaviour)
        level, level_reasons = granted_level(weighed, policy, as_of, row)
        due = date.fromordinal(int(due_on[row]))
        if override is not None and override.counts(as_of):
            due = min(due, override.expires_on)
        snapshots.append(
            Snapshot(
                customer_id=customer_id,
                as_of=as_of,
                due_on=min(due, demotion_due) if demotion_due else due,
                value=ranked_value(metrics, policy.tiers.basis, row),
                history=weighed.histories[row],
                tier=tier,
                tier_since=min(before.tier_since, as_of) if before and before.tier is tier else as_of,
                lifecycle=STAGES[int(stages.stage[row])],
                segment=segment,
                segment_since=min(before.segment_since, as_of) if before and _shown(before) == shown else as_of,
                segment_reasons=segmented.reasons(row),
                service_level=level,
                service_reasons=level_reasons,
                policy_version=policy.version,
                updated_at=now,
                override=override,
                facets=weighed.facets[row],
                additions=weighed.added[row],
                order_traits=weighed.order_traits[row],
                model_version=model_version,
                outlook=outlook,
                expected_value=None if outlooks is None or outlook is None else outlooks.expected[row],
                churn_warning=bool(weighed.warned[row]),
            )
        )
    return snapshots


def _shown(snapshot: Snapshot) -> tuple[bool, str]:
    """The segment that is shown: a model's is never the same as one of the policy, whatever it is called."""
    return snapshot.outlook is not None, snapshot.shown_segment


def granted_level(weighed: Weighed, policy: Policy, as_of: date, row: int) -> tuple[str, tuple[Reason, ...]]:
    """The service level that counts, with its reasons: a person's, else the policy's."""
    override = weighed.overrides[row]
    level = override.level_in(policy) if override is not None and override.counts(as_of) else None
    if override is not None and level is not None:
        return level, (override.reason_of(level),)
    return weighed.granted.code(row), weighed.granted.reasons(row)


def _additions(policy: Policy, found: Facts, row: int, positions: Sequence[int]) -> Additions:
    held = [policy.addition_table[position] for position in positions]
    return tuple((each.code, tuple(condition.reason(found, row) for condition in each.conditions)) for each in held)


def _positions(table: Sequence[policies.Row], codes: Sequence[str]) -> Column:
    return np.array([codes.index(row.code) for row in table], dtype=np.int64)
