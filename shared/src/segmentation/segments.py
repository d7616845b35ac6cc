"""Lifecycle: where a customer stands in the relationship, measured by its own rhythm.

Laws: it follows from the order days and as_of alone, no model needed; each stage says the day on
which silence alone would end it.

A customer's rhythm is its mean number of days between order days, rounded up and kept within the
policy's bounds (a default for those with fewer than two). With r = rhythm and recency = days since
the last order, the first that holds decides:

    no order                             prospect
    recency > lost_after_days            lost
    recency > dormant_after_rhythms * r  dormant
    recency > at_risk_after_rhythms * r  at_risk
    first order < new_days ago           new
    otherwise                            active
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from segmentation.metrics import FAR_FUTURE, Column, Days, Metrics


class Lifecycle(enum.StrEnum):
    """Stages of the relationship."""

    PROSPECT = "prospect"
    NEW = "new"
    ACTIVE = "active"
    AT_RISK = "at_risk"
    DORMANT = "dormant"
    LOST = "lost"


STAGES: Final = tuple(Lifecycle)
"""Columns of stages are columns of positions in this."""


@dataclass(frozen=True, slots=True)
class LifecycleRules:
    """The policy's part of the lifecycle. All in days, but for the two that count rhythms."""

    new_days: int = 60
    default_rhythm_days: int = 30
    shortest_rhythm_days: int = 7
    longest_rhythm_days: int = 120
    at_risk_after_rhythms: int = 3
    dormant_after_rhythms: int = 6
    lost_after_days: int = 365


@dataclass(frozen=True, slots=True)
class Stages:
    """The lifecycle of some customers."""

    stage: Column
    changes_on: Days
    """The next day on which the stage changes by silence alone; FAR_FUTURE for never."""
    rhythm: Column
    """In days: the customer's own within the bounds, or the default."""
    opens_on: Mapping[Lifecycle, Days]
    """Per stage that silence leads to, its first day by that alone; without meaning for those without an order."""


def stages(metrics: Metrics, rules: LifecycleRules) -> Stages:
    """Finds each customer's stage as of the metrics' day."""
    today = metrics.as_of.toordinal()
    ordered = metrics.lifetime_orders > 0
    gaps = np.maximum(metrics.order_days - 1, 1)
    span = np.where(ordered, metrics.last_order_day - metrics.first_order_day, 0)
    own_rhythm = np.clip(-(-span // gaps), rules.shortest_rhythm_days, rules.longest_rhythm_days)
    rhythm = np.where(metrics.order_days > 1, own_rhythm, rules.default_rhythm_days)

    # Each boundary is the first day of the stage that it opens.
    lost_on = metrics.last_order_day + rules.lost_after_days + 1
    dormant_on = metrics.last_order_day + rules.dormant_after_rhythms * rhythm + 1
    at_risk_on = metrics.last_order_day + rules.at_risk_after_rhythms * rhythm + 1
    settled_on = np.where(ordered, metrics.first_order_day, 0) + rules.new_days
    stage = np.select(
        [~ordered, today >= lost_on, today >= dormant_on, today >= at_risk_on, today < settled_on],
        [
            STAGES.index(stage)
            for stage in (Lifecycle.PROSPECT, Lifecycle.LOST, Lifecycle.DORMANT, Lifecycle.AT_RISK, Lifecycle.NEW)
        ],
        default=STAGES.index(Lifecycle.ACTIVE),
    )
    changes_on = np.full(len(ordered), FAR_FUTURE, dtype=np.int64)
    for boundary in (lost_on, dormant_on, at_risk_on, settled_on):
        changes_on = np.where(ordered & (boundary > today), np.minimum(changes_on, boundary), changes_on)
    opens_on = {
        Lifecycle.ACTIVE: settled_on,
        Lifecycle.AT_RISK: at_risk_on,
        Lifecycle.DORMANT: dormant_on,
        Lifecycle.LOST: lost_on,
    }
    return Stages(stage, changes_on, rhythm, opens_on)
