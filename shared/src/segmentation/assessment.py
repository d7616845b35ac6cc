"""The one composed decision: metrics + computed tier + policy + what was before -> a snapshot.

Laws: it is pure; the reasons come from the code that decides; assessing again with nothing new
changes nothing; whatever in a snapshot would change by the passing of time alone says on which day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from msgspec import Struct

from segmentation import policy as policies
from segmentation import segments
from segmentation.fields import CustomerId
from segmentation.metrics import Metrics
from segmentation.overrides import ByHand, Override, effective_tier
from segmentation.policy import TIER_WINDOW, Decisions, Policy, Reason
from segmentation.segments import STAGES, Lifecycle, Stages
from segmentation.tiering import RANK, Basis, Tier, TierHistory


class Snapshot(Struct, frozen=True, kw_only=True):
    """A stored assessment."""

    customer_id: CustomerId
    as_of: date
    due_on: date
    """The next business day on which it would change if nothing happened."""
    value: int | None
    """What the customer is ranked by: base minor units, or orders; None where there is none."""
    history: TierHistory
    tier: Tier
    """The effective one."""
    tier_since: date
    lifecycle: Lifecycle
    segment: str
    segment_since: date
    segment_reasons: tuple[Reason, ...]
    service_level: str
    service_reasons: tuple[Reason, ...]
    policy_version: int
    updated_at: datetime
    override: Override | None = None
    """As it was set, expired or not: only a day can say whether it counts."""

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
    stages: Stages
    segmented: Decisions
    granted: Decisions


def weigh(
    metrics: Metrics,
    previous: Mapping[CustomerId, Snapshot],
    policy: Policy,
    *,
    computed: Mapping[CustomerId, Tier] | None = None,
    by_hand: ByHand | None = None,
) -> Weighed:
    """Decides over every customer of the metrics as of their day; the arguments are those of `assess`."""
    as_of, customers = metrics.as_of, metrics.customer_ids
    newly, ordered = computed or {}, by_hand or {}
    histories: list[TierHistory] = []
    tiers: list[tuple[Tier, date | None]] = []
    overrides: list[Override | None] = []
    for customer_id in customers:
        before = previous.get(customer_id)
        history = before.history.rewound(as_of) if before else TierHistory()
        if customer_id in newly:
            history = history.moved(newly[customer_id], as_of)
        histories.append(history)
        order = ordered.get(customer_id, before and before.override)
        overrides.append(order if isinstance(order, Override) else None)
        tiers.append(effective_tier(history, overrides[-1], as_of, policy.tiers.demotion_grace_days))

    stages = segments.stages(metrics, policy.lifecycle)
    ranks = np.array([RANK[tier] for tier, _ in tiers], dtype=np.int64)
    facts = policies.Facts(metrics, policies.tier_facts(ranks, stages.stage))
    segmented = policies.decide(policy.segment_table, facts, len(customers))
    segment_codes = tuple(policy.segments)
    positions = np.array([segment_codes.index(row.code) for row in policy.segment_table], dtype=np.int64)
    with_segment = {**facts.codes, "segment": (positions[segmented.chosen], segment_codes)}
    granted = policies.decide(policy.grant_table, policies.Facts(metrics, with_segment), len(customers))
    return Weighed(histories, tiers, overrides, stages, segmented, granted)


def assess(
    metrics: Metrics,
    previous: Mapping[CustomerId, Snapshot],
    policy: Policy,
    *,
    now: datetime,
    computed: Mapping[CustomerId, Tier] | None = None,
    by_hand: ByHand | None = None,
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
    """
    as_of, customers = metrics.as_of, metrics.customer_ids
    weighed = weigh(metrics, previous, policy, computed=computed, by_hand=by_hand)
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
                segment_since=min(before.segment_since, as_of) if before and before.segment == segment else as_of,
                segment_reasons=segmented.reasons(row),
                service_level=level,
                service_reasons=level_reasons,
                policy_version=policy.version,
                updated_at=now,
                override=override,
            )
        )
    return snapshots


def granted_level(weighed: Weighed, policy: Policy, as_of: date, row: int) -> tuple[str, tuple[Reason, ...]]:
    """The service level that counts, with its reasons: a person's, else the policy's."""
    override = weighed.overrides[row]
    level = override.level_in(policy) if override is not None and override.counts(as_of) else None
    if override is not None and level is not None:
        return level, (override.reason_of(level),)
    return weighed.granted.code(row), weighed.granted.reasons(row)
