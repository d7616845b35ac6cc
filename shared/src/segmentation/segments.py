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
    comeback < won_back_days ago         won_back
    otherwise                            active

A comeback is an order day before which the customer had become dormant or lost, by the rhythm that its order days until
then had given it.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from segmentation.errors import PolicyInvalid
from segmentation.metrics import FAR_FUTURE, FAR_PAST, Column, Days, Metrics
from segmentation.toml_tables import TomlTable


class Lifecycle(enum.StrEnum):
    """Stages of the relationship."""

    PROSPECT = "prospect"
    NEW = "new"
    ACTIVE = "active"
    AT_RISK = "at_risk"
    DORMANT = "dormant"
    LOST = "lost"
    WON_BACK = "won_back"


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
    won_back_days: int = 60


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
    comeback: Days
    """The last order day that ended a silence which had made the customer dormant or lost; FAR_PAST for none."""


def stages(metrics: Metrics, rules: LifecycleRules) -> Stages:
    """Finds each customer's stage as of the metrics' day."""
    today = metrics.as_of.toordinal()
    ordered = metrics.lifetime_orders > 0
    gaps = np.maximum(metrics.order_days - 1, 1)
    span = np.where(ordered, metrics.last_order_day - metrics.first_order_day, 0)
    rhythm = _rhythm(span, gaps, metrics.order_days > 1, rules)

    # Each boundary is the first day of the stage that it opens.
    lost_on = metrics.last_order_day + rules.lost_after_days + 1
    dormant_on = metrics.last_order_day + rules.dormant_after_rhythms * rhythm + 1
    at_risk_on = metrics.last_order_day + rules.at_risk_after_rhythms * rhythm + 1
    settled_on = np.where(ordered, metrics.first_order_day, 0) + rules.new_days
    comeback = _last_comeback(metrics, rules)
    steady_on = np.where(comeback > FAR_PAST, comeback, 0) + rules.won_back_days
    stage = np.select(
        [
            ~ordered,
            today >= lost_on,
            today >= dormant_on,
            today >= at_risk_on,
            today < settled_on,
            (comeback > FAR_PAST) & (today < steady_on),
        ],
        [
            STAGES.index(stage)
            for stage in (
                *(Lifecycle.PROSPECT, Lifecycle.LOST, Lifecycle.DORMANT, Lifecycle.AT_RISK),
                *(Lifecycle.NEW, Lifecycle.WON_BACK),
            )
        ],
        default=STAGES.index(Lifecycle.ACTIVE),
    )
    changes_on = np.full(len(ordered), FAR_FUTURE, dtype=np.int64)
    for boundary in (lost_on, dormant_on, at_risk_on, settled_on, steady_on):
        changes_on = np.where(ordered & (boundary > today), np.minimum(changes_on, boundary), changes_on)
    opens_on = {
        # Whoever came back is active again once that is long enough ago, however long it is known.
        Lifecycle.ACTIVE: np.where(comeback > FAR_PAST, np.maximum(settled_on, steady_on), settled_on),
        Lifecycle.AT_RISK: at_risk_on,
        Lifecycle.DORMANT: dormant_on,
        Lifecycle.LOST: lost_on,
    }
    return Stages(stage, changes_on, rhythm, opens_on, comeback)


def _rhythm(span: Days, gaps: Column, has_own: npt.NDArray[np.bool_], rules: LifecycleRules) -> Days:
    own = np.clip(-(-span // gaps), rules.shortest_rhythm_days, rules.longest_rhythm_days)
    return np.where(has_own, own, rules.default_rhythm_days)


def _last_comeback(metrics: Metrics, rules: LifecycleRules) -> Days:
    """The last order day that ended a silence which had made the customer dormant or lost; FAR_PAST for none."""
    owners, days = metrics.ordered_on
    last = np.full(len(metrics.customer_ids), FAR_PAST, dtype=np.int64)
    again = np.flatnonzero(owners[1:] == owners[:-1]) + 1  # order days that are not their customer's first
    owner, before = owners[again], days[again - 1]
    gaps = again - 1 - np.searchsorted(owners, owner)  # between the order days before the silence
    rhythm = _rhythm(before - metrics.first_order_day[owner], np.maximum(gaps, 1), gaps > 0, rules)
    patience = np.minimum(rules.dormant_after_rhythms * rhythm, rules.lost_after_days)
    comebacks = days[again] - 1 - before > patience
    last[owner[comebacks]] = days[again][comebacks]  # in order of day: the last one stays
    return last


def parse_lifecycle_rules(table: TomlTable) -> LifecycleRules:
    """Reads the section [lifecycle]; raises PolicyInvalid with the field."""
    standard = LifecycleRules()
    rules = LifecycleRules(
        **{
            # Policies from before customers could be won back do not say for how long.
            name: standard.won_back_days
            if name == "won_back_days" and not table.has(name)
            else table.integer(name, 1, 3_650)
            for name in LifecycleRules.__slots__
        }
    )
    if rules.shortest_rhythm_days > rules.longest_rhythm_days:
        raise PolicyInvalid("[lifecycle]: shortest_rhythm_days is greater than longest_rhythm_days")
    if rules.at_risk_after_rhythms > rules.dormant_after_rhythms:
        raise PolicyInvalid("[lifecycle]: at_risk_after_rhythms is greater than dormant_after_rhythms")
    table.finish()
    return rules
