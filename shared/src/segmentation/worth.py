"""What a customer is worth: contribution and potential, the value level of both, its size and how often it orders.

Laws: all of it follows from the figures, the effective tier, the lifecycle and what a model expects, none of it needing
a model; comparisons are exact; without one nothing here changes by the passing of time but on the days that windows and
lifecycle name.

Contribution  the tier says it: A high, B medium, otherwise low. A level lower where costs are given for an order of the
              last 365 days and the gross profit of these is negative.
Potential     expected = average value of an order day * 90 / own rhythm, both over the last 365 days; a share of it for
              a customer at risk, nothing for one that is dormant or lost. Where a model knows the customer, expected is
              what the model expects (of its horizon, as if of 90 days), to the minor unit, and always all of it: how
              likely the customer is to leave is in it. Held against what 90 of the last 365 days brought on average,
              net revenue * 90 / 365, it is
                  high    at `rising_from` times as much and more, if expected is at least `rising_from_amount`
                  low     below `falling_below` times as much
                  medium  otherwise, and always with fewer than `order_days_needed` order days in 365 days.
Value level   the contribution, one level higher with a high potential, one lower with a low one.
Size          by net revenue over 365 days, in units of the base currency.
Frequency     by orders over 90 days.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from segmentation.errors import PolicyInvalid
from segmentation.metrics import Column, Days, Metrics
from segmentation.segments import STAGES, Lifecycle
from segmentation.toml_tables import TomlTable

LEVELS: Final = ("high", "medium", "low")
SIZES: Final = ("large", "medium", "small")
"""Columns of these are columns of positions in them."""
WORTH_WINDOWS: Final = frozenset({"365d", "90d"})
_YEAR: Final = 365
_QUARTER: Final = 90
_MOST_MONEY: Final = 10**12
_FACTOR_FITS: Final = 2**40
"""Times a year of days squared it is still far below 2**63."""


@dataclass(frozen=True, slots=True)
class WorthRules:
    """The policy's part of it. Amounts are in units of the base currency."""

    rising_from: Fraction = Fraction(3, 2)
    rising_from_amount: int = 10_000
    falling_below: Fraction = Fraction(2, 5)
    at_risk_share: Fraction = Fraction(1, 2)
    order_days_needed: int = 3
    large_from: int = 100_000
    medium_from: int = 10_000
    high_frequency_from: int = 12
    medium_frequency_from: int = 3


STANDARD_WORTH: Final = WorthRules()


class Expected(NamedTuple):
    """What a model expects some customers to bring within its horizon."""

    days: int
    """The horizon."""
    known: npt.NDArray[np.bool_]
    """Whom the model knows; of others the rest means nothing."""
    minor_units: Column


class Worth(NamedTuple):
    """Of some customers, positions in LEVELS, and for the size in SIZES."""

    contribution: Column
    potential: Column
    value_level: Column
    size: Column
    frequency: Column


def weigh(
    metrics: Metrics, ranks: Column, stages: Column, rules: WorthRules, *, unit: int, expected: Expected | None = None
) -> Worth:
    """Weighs customers.

    Args:
        metrics: Their figures.
        ranks: Positions of their effective tiers in `TIERS`.
        stages: Positions of their lifecycle in `STAGES`.
        rules: The policy's.
        unit: Minor units in one unit of the base currency.
        expected: By a model; None without one.
    """
    year, quarter = metrics.windows["365d"], metrics.windows["90d"]
    net = year["net_revenue"]
    high = len(LEVELS) - 1
    contribution = np.minimum(ranks, high)
    loss = (year["orders_with_cost"] > 0) & (year["gross_profit"] < 0)
    contribution = np.minimum(contribution + loss.astype(np.int64), high)
    potential = _potential(metrics, net, stages, rules, unit=unit, expected=expected)
    return Worth(
        contribution=contribution,
        potential=potential,
        value_level=np.clip(contribution + potential - LEVELS.index("medium"), 0, high),
        size=_steps(net, rules.large_from * unit, rules.medium_from * unit),
        frequency=_steps(quarter["orders"], rules.high_frequency_from, rules.medium_frequency_from),
    )


def _potential(
    metrics: Metrics, net: Column, stages: Column, rules: WorthRules, *, unit: int, expected: Expected | None
) -> Column:
    first, last, order_days = _order_days(metrics)
    known = (order_days >= rules.order_days_needed) & (net > 0)
    # expected : usual = 365 * gaps : span * order days; the money of both is the same net revenue.
    above = _YEAR * np.maximum(order_days - 1, 0)
    below = np.maximum(last - first, 1) * np.maximum(order_days, 1)
    at_risk = stages == STAGES.index(Lifecycle.AT_RISK)
    gone = (stages == STAGES.index(Lifecycle.DORMANT)) | (stages == STAGES.index(Lifecycle.LOST))
    if expected is not None:
        # Money against money, beyond 64 bits; the model knows of risk and silence by itself.
        above = np.where(expected.known, _YEAR * expected.minor_units.astype(object), above)
        below = np.where(expected.known & (net > 0), expected.days * net.astype(object), below)
        at_risk, gone = at_risk & ~expected.known, gone & ~expected.known
    share = rules.at_risk_share
    rising = np.where(
        at_risk, _at_least(above, below, rules.rising_from / share), _at_least(above, below, rules.rising_from)
    )
    steady = np.where(
        at_risk, _at_least(above, below, rules.falling_below / share), _at_least(above, below, rules.falling_below)
    )
    potential = np.full(len(net), LEVELS.index("medium"), dtype=np.int64)
    potential[known & (gone | ~steady)] = LEVELS.index("low")
    for row in np.flatnonzero(known & rising & ~gone):
        weight = share if at_risk[row] else Fraction(1)
        promised = Fraction(int(net[row]) * _QUARTER * int(above[row]), _YEAR * int(below[row])) * weight
        if promised >= rules.rising_from_amount * unit:
            potential[row] = LEVELS.index("high")
    return potential


def _at_least(above: Days, below: Days, threshold: Fraction) -> npt.NDArray[np.bool_]:
    """Where above / below >= threshold, exactly."""
    if max(threshold.numerator, threshold.denominator) > _FACTOR_FITS:
        above, below = above.astype(object), below.astype(object)
    return np.asarray(above * threshold.denominator >= below * threshold.numerator, dtype=np.bool_)


def _order_days(metrics: Metrics) -> tuple[Days, Days, Days]:
    """Of the last 365 days: the first order day, the last one, and how many."""
    owners, days = metrics.ordered_on
    inside = days > metrics.as_of.toordinal() - _YEAR
    owners, days = owners[inside], days[inside]
    everyone = np.arange(len(metrics.customer_ids), dtype=np.int64)
    starts, ends = np.searchsorted(owners, everyone), np.searchsorted(owners, everyone, side="right")
    counts = ends - starts
    padded = np.append(days, 0)
    return padded[starts], np.where(counts > 0, padded[ends - 1], 0), counts


def _steps(values: Column, high: int, medium: int) -> npt.NDArray[np.int64]:
    return np.where(values >= high, 0, np.where(values >= medium, 1, 2))


def parse_worth(root: TomlTable) -> WorthRules:
    """Reads the sections [value], [size] and [frequency], each of which may be left out.

    Raises:
        PolicyInvalid: names the section and the field.
    """
    standard = STANDARD_WORTH
    value, size, frequency = (root.section(name) for name in ("value", "size", "frequency"))
    rules = WorthRules(
        rising_from=_times(value, "rising_from", standard.rising_from),
        rising_from_amount=_whole(value, "rising_from_amount", standard.rising_from_amount),
        falling_below=_times(value, "falling_below", standard.falling_below),
        at_risk_share=value.share("at_risk_share", "0.5"),
        order_days_needed=_whole(value, "order_days_needed", standard.order_days_needed, least=2),
        large_from=_whole(size, "large_from", standard.large_from, least=1),
        medium_from=_whole(size, "medium_from", standard.medium_from, least=1),
        high_frequency_from=_whole(frequency, "high_from", standard.high_frequency_from, least=1),
        medium_frequency_from=_whole(frequency, "medium_from", standard.medium_frequency_from, least=1),
    )
    for table, high, medium in (
        ("[size]: medium_from is greater than large_from", rules.large_from, rules.medium_from),
        ("[frequency]: medium_from is greater than high_from", rules.high_frequency_from, rules.medium_frequency_from),
        ("[value]: falling_below is greater than rising_from", rules.rising_from, rules.falling_below),
    ):
        if medium > high:
            raise PolicyInvalid(table)
    for each in (value, size, frequency):
        each.finish()
    return rules


def _whole(table: TomlTable, name: str, default: int, *, least: int = 0) -> int:
    given = table.optional_integer(name, least, _MOST_MONEY)
    return default if given is None else given


def _times(table: TomlTable, name: str, default: Fraction) -> Fraction:
    return table.factor(name) if table.has(name) else default
