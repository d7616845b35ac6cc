"""The one composed decision: metrics + computed tier + policy + what was before -> a snapshot.

Laws: it is pure; the reasons come from the code that decides; assessing again with nothing new
changes nothing; whatever in a snapshot would change by the passing of time alone says on which day.
"""

from collections.abc import Mapping
from datetime import date, datetime

import numpy as np
from msgspec import Struct

from segmentation import policy as policies
from segmentation import segments
from segmentation.fields import CustomerId
from segmentation.metrics import Metrics
from segmentation.policy import TIER_WINDOW, Policy, Reason
from segmentation.segments import STAGES, Lifecycle
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


def ranked_value(metrics: Metrics, basis: Basis, row: int) -> int | None:
    """A customer's value on the policy's basis over 365 days."""
    window = metrics.windows[TIER_WINDOW]
    if basis is Basis.ORDERS:
        return int(window["orders"][row])
    if basis is Basis.GROSS_PROFIT:
        return int(window["gross_profit"][row]) if window["orders_with_cost"][row] else None
    return int(window["net_revenue"][row])


def assess(
    metrics: Metrics,
    previous: Mapping[CustomerId, Snapshot],
    policy: Policy,
    *,
    now: datetime,
    computed: Mapping[CustomerId, Tier] | None = None,
) -> list[Snapshot]:
    """Assesses every customer of the metrics as of their day.

    Args:
        metrics: Rolled afresh.
        previous: What stands of each; nobody is required to have one.
        policy: In force.
        now: The machine's clock, for `updated_at`.
        computed: Tiers newly computed from the ranking of everyone. Others keep the one that stands:
            a tier is relative, so only a look at everyone can move it.
    """
    as_of, customers = metrics.as_of, metrics.customer_ids
    newly = computed or {}
    histories: list[TierHistory] = []
    tiers: list[tuple[Tier, date | None]] = []
    for customer_id in customers:
        before = previous.get(customer_id)
        history = before.history.rewound(as_of) if before else TierHistory()
        if customer_id in newly:
            history = history.moved(newly[customer_id], as_of)
        histories.append(history)
        tiers.append(history.effective(as_of, policy.tiers.demotion_grace_days))

    stages = segments.stages(metrics, policy.lifecycle)
    ranks = np.array([RANK[tier] for tier, _ in tiers], dtype=np.int64)
    facts = policies.Facts(metrics, policies.tier_facts(ranks, stages.stage))
    segmented = policies.decide(policy.segment_table, facts, len(customers))
    segment_codes = tuple(policy.segments)
    positions = np.array([segment_codes.index(row.code) for row in policy.segment_table], dtype=np.int64)
    with_segment = {**facts.codes, "segment": (positions[segmented.chosen], segment_codes)}
    granted = policies.decide(policy.grant_table, policies.Facts(metrics, with_segment), len(customers))

    due_on = stages.changes_on
    for window in policy.windows:
        due_on = np.minimum(due_on, metrics.changes_on[window])

    snapshots: list[Snapshot] = []
    for row, customer_id in enumerate(customers):
        before = previous.get(customer_id)
        tier, demotion_due = tiers[row]
        segment = segmented.code(row)
        due = date.fromordinal(int(due_on[row]))
        snapshots.append(
            Snapshot(
                customer_id=customer_id,
                as_of=as_of,
                due_on=min(due, demotion_due) if demotion_due else due,
                value=ranked_value(metrics, policy.tiers.basis, row),
                history=histories[row],
                tier=tier,
                tier_since=min(before.tier_since, as_of) if before and before.tier is tier else as_of,
                lifecycle=STAGES[int(stages.stage[row])],
                segment=segment,
                segment_since=min(before.segment_since, as_of) if before and before.segment == segment else as_of,
                segment_reasons=segmented.reasons(row),
                service_level=granted.code(row),
                service_reasons=granted.reasons(row),
                policy_version=policy.version,
                updated_at=now,
            )
        )
    return snapshots
