"""BG/NBD and Gamma-Gamma, the classics of counting one's customers and of what they spend.

Fader, Hardie and Lee (2005), "Counting your customers" the easy way; Fader and Hardie (2013), The Gamma-Gamma model of
monetary value. Laws: parameters are a few numbers; with the published parameters the published expectations come out.

A customer has `repeats` order days after the first, the last of them `span` after the first, and was looked at for
`age`: all from the first order on, in weeks. While alive it orders at a rate that is Gamma(r, alpha) over customers,
and after each order it is lost with a chance that is Beta(a, b).
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln, hyp2f1

from segment_trainer.examples import Examples
from segmentation import silences
from segmentation.features import Numbers
from segmentation.silences import DAYS_A_WEEK, Silence

_STARTS: Final = ((0.5, 5.0, 1.0, 3.0), (1.0, 10.0, 0.3, 3.0))
MOST_FITTED: Final = 25_000
"""Customers, chosen by a hash, that parameters are found on: they are seven, and more customers hardly move them."""
_LOG_BOUNDS: Final = (-7.0, 8.0)
_NEAR_ONE: Final = 1e-5


class Past(NamedTuple):
    """What the classics look at, a row a customer."""

    repeats: Numbers
    span: Numbers
    age: Numbers
    day_value: Numbers
    """The mean amount of an order day, the first included."""

    @property
    def days(self) -> silences.Past:
        """Without the amounts."""
        return silences.Past(self.repeats, self.span, self.age)

    @classmethod
    def of(cls, examples: Examples) -> "Past":
        return cls(*silences.Past.of(examples.features), examples.column("day_value_mean"))


@dataclass(frozen=True, slots=True)
class BetaGeometric:
    """BG/NBD with its parameters."""

    r: float
    alpha: float
    a: float
    b: float

    @classmethod
    def fit(cls, past: Past) -> "BetaGeometric":
        """By maximum likelihood, from two starts."""
        histories, number = np.unique(np.stack([past.repeats, past.span, past.age]), axis=1, return_counts=True)
        weights = number / number.sum()

        def loss(logs: Numbers) -> float:
            return -float(weights @ cls(*np.exp(logs)).log_likelihood(*histories))

        tried = [minimize(loss, np.log(start), method="L-BFGS-B", bounds=[_LOG_BOUNDS] * 4) for start in _STARTS]
        best = min(tried, key=lambda one: float(one.fun))
        return cls(*(float(each) for each in np.exp(best.x)))

    def log_likelihood(self, repeats: Numbers, span: Numbers, age: Numbers) -> Numbers:
        """Of each customer's past."""
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        together = (
            gammaln(r + repeats) - gammaln(r) + r * np.log(alpha)
            + gammaln(a + b) + gammaln(b + repeats) - gammaln(b) - gammaln(a + b + repeats)
        )  # fmt: skip
        alive = -(r + repeats) * np.log(alpha + age)
        lost = np.log(a) - np.log(b + np.maximum(repeats, 1) - 1) - (r + repeats) * np.log(alpha + span)
        likelihood: Numbers = together + np.where(repeats > 0, np.logaddexp(alive, lost), alive)
        return likelihood

    @property
    def silences(self) -> Silence:
        """What needs elementary functions only, and so is a part of our models too."""
        return Silence(self.r, self.alpha, self.a, self.b)

    def alive(self, past: Past) -> Numbers:
        """The probability that a customer is not lost."""
        return self.silences.alive(past.days)

    def orders(self, past: Past, weeks: float) -> Numbers:
        """The expected number of order days in the weeks to come."""
        repeats, age = past.repeats, past.age
        a = self.a if abs(self.a - 1) > _NEAR_ONE else 1 + _NEAR_ONE
        share = weeks / (self.alpha + age + weeks)
        # The published formula, or its transformation by Euler: of the two the one that cannot overflow.
        left, right, power = self.r + repeats, self.b + repeats, self.r + repeats
        together, transformed = a + self.b + repeats - 1, a - 1 < power
        left, right = np.where(transformed, together - left, left), np.where(transformed, together - right, right)
        tail = (1 - share) ** np.where(transformed, a - 1, power) * hyp2f1(left, right, together, share)
        expected: Numbers = together / (a - 1) * (1 - tail) * self.alive(past)
        return expected

    def silence(self, past: Past, weeks: float) -> Numbers:
        """The probability of no order in the weeks to come."""
        return self.silences.lasting(past.days, weeks)


@dataclass(frozen=True, slots=True)
class GammaGamma:
    """What an order day brings: Gamma(p, v) around a mean whose v is Gamma(q, gamma) over customers."""

    p: float
    q: float
    gamma: float

    @classmethod
    def fit(cls, number: Numbers, mean: Numbers) -> "GammaGamma":
        """By maximum likelihood, over customers who brought something; q stays above 1, or there is no mean."""
        some = mean > 0
        number, mean = number[some], mean[some]
        if not len(mean):
            return cls(1.0, 2.0, 0.0)
        unit = float(np.median(mean))

        def loss(logs: Numbers) -> float:
            p, q, gamma = float(np.exp(logs[0])), 1 + float(np.exp(logs[1])), float(np.exp(logs[2]))
            x, m = number, mean / unit
            found = (
                gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * np.log(gamma)
                + (p * x - 1) * np.log(m) + p * x * np.log(x) - (p * x + q) * np.log(gamma + m * x)
            )  # fmt: skip
            return -float(found.mean())

        best = minimize(loss, np.array([1.0, 1.0, 0.0]), method="L-BFGS-B", bounds=[_LOG_BOUNDS] * 3)
        p, q, gamma = np.exp(best.x)
        return cls(float(p), 1 + float(q), float(gamma) * unit)

    def mean(self, number: Numbers, mean: Numbers) -> Numbers:
        """The expected amount of an order day, given the number of them so far and their mean."""
        return (self.gamma + number * mean) * self.p / (self.p * number + self.q - 1)


@dataclass(frozen=True, slots=True)
class Classic:
    """Both together, for one horizon."""

    orders: BetaGeometric
    amounts: GammaGamma
    kept: float
    """Net revenue / gross revenue of everyone: returns are no part of the classics."""
    weeks: float

    @classmethod
    def fit(cls, examples: Examples) -> "Classic":
        """From the past alone: what happened in the horizon is not looked at. Of many customers, from a sample."""
        past = Past.of(examples.sample(MOST_FITTED))
        gross = float(examples.column("gross").sum())
        return cls(
            BetaGeometric.fit(past),
            GammaGamma.fit(past.repeats + 1, past.day_value),
            max(float(examples.column("net").sum()) / gross, 0.0) if gross > 0 else 1.0,
            examples.question.horizon_days / DAYS_A_WEEK,
        )

    def amount(self, past: Past) -> Numbers:
        """What an order day brings, returns taken off."""
        return self.amounts.mean(past.repeats + 1, past.day_value) * self.kept

    def churn(self, examples: Examples) -> Numbers:
        return self.orders.silence(Past.of(examples), self.weeks)

    def value(self, examples: Examples) -> Numbers:
        past = Past.of(examples)
        return self.orders.orders(past, self.weeks) * self.amount(past)
