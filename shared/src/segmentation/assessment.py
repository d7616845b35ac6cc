"""The one composed decision: metrics, traits, computed tier, policy and what was before -> a snapshot.

Laws: it is pure; the reasons come from the code that decides; assessing again with nothing new
changes nothing; whatever in a snapshot would change by the passing of time alone says on which day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from segmentation import policy as policies
from segmentation import segments, worth
from segmentation.conditions import Decisions, Facts, Reason
from segmentation.fields import CustomerId
from segmentation.metrics import Column, Metrics
from segmentation.overrides import ByHand, Override, effective_tier
from segmentation.policy import ATTRIBUTE, GRADES, TIER_WINDOW, Policy
from segmentation.segments import STAGES, Lifecycle, Stages
from segmentation.tiering import RANK, TIERS, Basis, Tier, TierHistory
from segmentation.traits import INDUSTRIES, NO_DESCRIPTION, NO_ORDERS, SUBJECT_TYPES, Description, OrderTraits
from segmentation.worth import LEVELS, SIZES, Worth

_UNKNOWN = "unknown"


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
    facets: Facets = Facets()
    additions: Additions = ()
    order_traits: OrderTraits | None = None
    """What the counting orders say; None where that has to be found out. No part of the answer."""

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
    weights = worth.weigh(metrics, ranks, stages.stage, policy.worth, unit=policy.unit)
    plain = [_plain(description, each, policy) for description, each in zip(descriptions, traits, strict=True)]
    facts = _facts(metrics, ranks, stages.stage, weights, plain=plain, descriptions=descriptions, policy=policy)
    graded = policies.decide(policy.grade_table, facts, len(customers))
    facts = facts.with_codes("grade", _positions(policy.grade_table, GRADES)[graded.chosen], GRADES)
    segmented = policies.decide(policy.segment_table, facts, len(customers))
    codes = tuple(policy.segments)
    facts = facts.with_codes("segment", _positions(policy.segment_table, codes)[segmented.chosen], codes)
    granted = policies.decide(policy.grant_table, facts, len(customers))
    held = policies.holding(policy.addition_table, facts, len(customers))

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
            _known(descriptions[row], plain[row]) + regular[row],
        )
        for row in range(len(customers))
    ]
    added = [_additions(policy, facts, row, positions) if positions else () for row, positions in enumerate(held)]
    return Weighed(histories, tiers, overrides, traits, facets, stages, weights, graded, segmented, granted, added)


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
    """
    as_of, customers = metrics.as_of, metrics.customer_ids
    weighed = weigh(metrics, previous, policy, computed=computed, by_hand=by_hand, described=described, ordered=ordered)
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
                facets=weighed.facets[row],
                additions=weighed.added[row],
                order_traits=weighed.order_traits[row],
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


def _additions(policy: Policy, facts: Facts, row: int, positions: Sequence[int]) -> Additions:
    held = [policy.addition_table[position] for position in positions]
    return tuple((each.code, tuple(condition.reason(facts, row) for condition in each.conditions)) for each in held)


class _Plain(NamedTuple):
    """The facets that profile and orders say."""

    industry: str | None
    subject_type: str | None
    region: str | None
    channel: str | None
    needs: tuple[str, ...]


def _plain(description: Description, traits: OrderTraits, policy: Policy) -> _Plain:
    region, channel, needs = description.region, description.channel, description.needs
    if region is None and traits.region is not None:
        region = traits.region.value
    if channel is None and traits.channel is not None:
        channel = traits.channel.value
    for service, orders in traits.services.items():
        need = policy.needs_of_services.get(service)
        if need is not None and orders >= policy.needs_from_orders and need not in needs:
            needs = tuple(sorted((*needs, need)))
    return _Plain(description.industry, description.subject_type, region, channel, needs)


def _known(description: Description, plain: _Plain) -> int:
    """How many of `services.KNOWLEDGE` are known, but for the order history."""
    also = description.also_known
    return (
        (plain.industry is not None)
        + (plain.subject_type is not None)
        + (plain.region is not None)
        + (plain.channel is not None)
        + bool(description.needs)
        + ("name" in also)
        + ("account_manager" in also)
        + ("contract_type" in also or "contract_end" in also)
    )


def _positions(table: Sequence[policies.Row], codes: Sequence[str]) -> Column:
    return np.array([codes.index(row.code) for row in table], dtype=np.int64)


def _facts(
    metrics: Metrics,
    ranks: Column,
    stages: Column,
    weights: Worth,
    *,
    plain: Sequence[_Plain],
    descriptions: Sequence[Description],
    policy: Policy,
) -> Facts:
    """What conditions are held against; what no condition names, and would cost something to find, is left out."""
    codes: dict[str, tuple[Column, Sequence[str]]] = {
        "tier": (ranks, TIERS),
        "lifecycle": (stages, STAGES),
        "value_level": (weights.value_level, LEVELS),
        "contribution": (weights.contribution, LEVELS),
        "potential": (weights.potential, LEVELS),
        "size": (weights.size, SIZES),
        "frequency": (weights.frequency, LEVELS),
    }
    asked = policy.asked
    for fact, allowed in (("industry", INDUSTRIES), ("subject_type", SUBJECT_TYPES)):
        if fact in asked:
            place = {code: position for position, code in enumerate(allowed)}
            positions = [place[getattr(each, fact) or _UNKNOWN] for each in plain]
            codes[fact] = np.array(positions, dtype=np.int64), allowed
    for fact in ("region", "channel"):
        if fact in asked:
            codes[fact] = _coded([getattr(each, fact) or "" for each in plain])
    for fact in asked:
        if fact.startswith(ATTRIBUTE):
            key = fact.removeprefix(ATTRIBUTE)
            codes[fact] = _coded([each.attributes.get(key, "") for each in descriptions])
    sets = {"needs": [frozenset(each.needs) for each in plain]} if "needs" in asked else {}
    return Facts(metrics, codes, sets)


def _coded(values: Sequence[str]) -> tuple[Column, Sequence[str]]:
    """Whatever values there are, as positions among them."""
    names = sorted(set(values))
    place = {name: position for position, name in enumerate(names)}
    return np.array([place[value] for value in values], dtype=np.int64), names
