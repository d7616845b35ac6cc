"""The facts that a policy decides by, gathered into columns: what profile, orders, worth, lifecycle and model say.

Laws: nothing is decided here; what no condition names, and would cost something to find, is left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segmentation.conditions import Facts
from segmentation.metrics import Column, Metrics
from segmentation.policy import ATTRIBUTE, Policy
from segmentation.risk import CHURN_PROBABILITY, WARNED, Outlooks
from segmentation.segments import STAGES
from segmentation.tiering import TIERS
from segmentation.traits import INDUSTRIES, SUBJECT_TYPES, Description, OrderTraits
from segmentation.worth import LEVELS, SIZES, Worth

_UNKNOWN = "unknown"


class Plain(NamedTuple):
    """The facets that profile and orders say."""

    industry: str | None
    subject_type: str | None
    region: str | None
    channel: str | None
    needs: tuple[str, ...]


def plain_of(description: Description, traits: OrderTraits, policy: Policy) -> Plain:
    region, channel, needs = description.region, description.channel, description.needs
    if region is None and traits.region is not None:
        region = traits.region.value
    if channel is None and traits.channel is not None:
        channel = traits.channel.value
    for service, orders in traits.services.items():
        need = policy.needs_of_services.get(service)
        if need is not None and orders >= policy.needs_from_orders and need not in needs:
            needs = tuple(sorted((*needs, need)))
    return Plain(description.industry, description.subject_type, region, channel, needs)


def known_of(description: Description, plain: Plain) -> int:
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


def gather(
    metrics: Metrics,
    ranks: Column,
    stages: Column,
    *,
    weights: Worth,
    warnings: Column,
    outlooks: Outlooks | None,
    plain: Sequence[Plain],
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
        "churn_warning": (np.where(warnings, 0, 1), WARNED),
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
    if "behaviour" in asked:
        codes["behaviour"] = _behaviour(outlooks, len(plain))
    sets = {"needs": [frozenset(each.needs) for each in plain]} if "needs" in asked else {}
    nothing = np.zeros(len(plain), dtype=np.int64)
    return Facts(metrics, codes, sets, {CHURN_PROBABILITY: (nothing, nothing) if outlooks is None else outlooks.churn})


def _behaviour(outlooks: Outlooks | None, customers: int) -> tuple[Column, Sequence[str]]:
    """The model's segments; the first code stands for whom it does not know."""
    if outlooks is None:
        return np.zeros(customers, dtype=np.int64), ("",)
    segments = outlooks.model.segments
    return np.where(outlooks.known, outlooks.segment + 1, 0), ("", *(segment.code for segment in segments))


def _coded(values: Sequence[str]) -> tuple[Column, Sequence[str]]:
    """Whatever values there are, as positions among them."""
    names = sorted(set(values))
    place = {name: position for position, name in enumerate(names)}
    return np.array([place[value] for value in values], dtype=np.int64), names
