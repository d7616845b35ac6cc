"""Decision tables: conditions on facts, rows of conditions, and what they decide for many customers at once.

Laws: rows are tried from the top, the first that holds decides; a row holds where all its conditions do; a reason is a
condition that held, with the fact as it was; comparisons are exact.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from segmentation.metrics import Column, Metrics

_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
FIGURES: Final[Mapping[str, tuple[str, str | None]]] = {
    "orders": ("orders", None),
    "returns": ("returns", None),
    "complaints": ("complaints", None),
    "return_rate": ("returns", "orders"),
    "complaint_rate": ("complaints", "orders"),
    "on_time_rate": ("orders_on_time", "orders_with_promise"),
}
"""Figures a condition can name: numerator and denominator among the bucket columns."""


class Reason(NamedTuple):
    """One condition that held: the fact, what it was, and what was asked of it."""

    fact: str
    value: str
    condition: str = ""

    def text(self, language: str) -> str:
        """The reason in words."""
        name = _FACT_NAMES.get(self.fact, {}).get(language, self.fact)
        return f"{name} {self.value}" + (f" ({self.condition})" if self.condition else "")


_FACT_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "tier": {"en": "tier", "zh": "等级"},
    "lifecycle": {"en": "lifecycle", "zh": "生命周期"},
    "segment": {"en": "segment", "zh": "客户群"},
    "default": {"en": "default for", "zh": "默认适用于"},
    "value_level": {"en": "value level", "zh": "价值级别"},
    "contribution": {"en": "contribution", "zh": "贡献"},
    "potential": {"en": "potential", "zh": "潜力"},
    "size": {"en": "size", "zh": "规模"},
    "frequency": {"en": "frequency", "zh": "频次"},
    "grade": {"en": "grade", "zh": "客户级别"},
    "subject_type": {"en": "subject type", "zh": "主体类型"},
    "industry": {"en": "industry", "zh": "行业"},
    "region": {"en": "region", "zh": "地区"},
    "channel": {"en": "channel", "zh": "渠道"},
    "needs": {"en": "needs", "zh": "需求"},
    "behaviour": {"en": "behaviour", "zh": "行为群"},
    "churn_probability": {"en": "churn probability", "zh": "流失概率"},
    "churn_warning": {"en": "churn warning", "zh": "流失预警"},
    "override": {"en": "override", "zh": "人工指定"},
}


class Comparison(NamedTuple):
    """One condition held against one customer."""

    fact: str
    value: str | None
    """None where there is none: a rate without a denominator, a field that nobody gave."""
    condition: str
    """What is asked of it: codes, or a comparison with a threshold."""
    holds: bool


class Tried(NamedTuple):
    """One row of a decision table, tried for one customer."""

    row: int
    """Counted from 1, as in the policy's file."""
    code: str
    comparisons: tuple[Comparison, ...]

    @property
    def holds(self) -> bool:
        return all(comparison.holds for comparison in self.comparisons)


@dataclass(frozen=True, slots=True)
class Facts:
    """What conditions are held against: columns with a row a customer."""

    metrics: Metrics
    codes: Mapping[str, tuple[Column, Sequence[str]]]
    """Per coded fact the column of positions, and the codes these are positions in."""
    sets: Mapping[str, Sequence[frozenset[str]]] = field(default_factory=dict)
    """Per fact of which a customer has several codes, those of each customer."""
    rates: Mapping[str, tuple[Column, Column]] = field(default_factory=dict)
    """Per fact that is a rate of no window, numerator and denominator; 0 below where a customer has none."""

    def with_codes(self, fact: str, column: Column, names: Sequence[str]) -> "Facts":
        """These, and one more that was decided from them."""
        return replace(self, codes={**self.codes, fact: (column, names)})


@dataclass(frozen=True, slots=True)
class OneOf:
    """The fact is one of these codes."""

    fact: str
    codes: tuple[str, ...]

    def holds(self, facts: Facts) -> npt.NDArray[np.bool_]:
        column, names = facts.codes[self.fact]
        # Of a fact with open codes only those that somebody has are among the names.
        return np.isin(column, [names.index(code) for code in self.codes if code in names])

    def reason(self, facts: Facts, row: int) -> Reason:
        column, names = facts.codes[self.fact]
        return Reason(self.fact, names[int(column[row])])

    def compared(self, facts: Facts, row: int) -> Comparison:
        value = self.reason(facts, row).value or None
        return Comparison(self.fact, value, ", ".join(self.codes), bool(self.holds(facts)[row]))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Among the customer's codes is one of these."""

    fact: str
    codes: tuple[str, ...]

    def holds(self, facts: Facts) -> npt.NDArray[np.bool_]:
        wanted = frozenset(self.codes)
        return np.array([not wanted.isdisjoint(each) for each in facts.sets[self.fact]], dtype=np.bool_)

    def reason(self, facts: Facts, row: int) -> Reason:
        return Reason(self.fact, ", ".join(code for code in self.codes if code in facts.sets[self.fact][row]))

    def compared(self, facts: Facts, row: int) -> Comparison:
        value = ", ".join(sorted(facts.sets[self.fact][row])) or None
        return Comparison(self.fact, value, ", ".join(self.codes), bool(self.holds(facts)[row]))


@dataclass(frozen=True, slots=True)
class Compares:
    """A figure compares so with a threshold; a rate without a denominator never holds."""

    fact: str
    figure: str
    window: str | None
    """None where it is of none, such as what a model says."""
    comparison: str
    threshold: Fraction

    def holds(self, facts: Facts) -> npt.NDArray[np.bool_]:
        numerator, denominator = self._columns(facts)
        # Python's integers: a threshold of many digits must neither overflow nor wrap.
        left = numerator.astype(object) * self.threshold.denominator
        right = denominator.astype(object) * self.threshold.numerator
        compared = _OPERATORS[self.comparison](left, right)
        return np.asarray(compared & (denominator > 0), dtype=np.bool_)

    def reason(self, facts: Facts, row: int) -> Reason:
        numerator, denominator = self._columns(facts)
        value = int(numerator[row]) / int(denominator[row])
        return Reason(self.fact, f"{value:.4g}", f"{self.comparison} {float(self.threshold):g}")

    def compared(self, facts: Facts, row: int) -> Comparison:
        there = bool(self._columns(facts)[1][row])
        value = self.reason(facts, row).value if there else None
        asked = f"{self.comparison} {float(self.threshold):g}"
        return Comparison(self.fact, value, asked, bool(self.holds(facts)[row]))

    def _columns(self, facts: Facts) -> tuple[Column, Column]:
        if self.window is None:
            return facts.rates[self.figure]
        window = facts.metrics.windows[self.window]
        above, below = FIGURES[self.figure]
        return window[above], window[below] if below else np.ones_like(window[above])


Condition = OneOf | AnyOf | Compares


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a decision table."""

    code: str
    """What the row decides: a segment's or a service level's code."""
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a table decided for some customers."""

    table: Sequence[Row]
    chosen: Column
    """The position of the deciding row."""
    facts: Facts

    def code(self, row: int) -> str:
        return self.table[int(self.chosen[row])].code

    def reasons(self, row: int) -> tuple[Reason, ...]:
        decided = self.table[int(self.chosen[row])]
        reasons = tuple(condition.reason(self.facts, row) for condition in decided.conditions)
        if reasons:
            return reasons
        column, names = self.facts.codes["tier"]
        return (Reason("default", names[int(column[row])]),)

    def tried(self, row: int) -> tuple[Tried, ...]:
        """The rows that were tried for a customer, from the top; the last one is the one that decided."""
        return tuple(
            Tried(number, each.code, tuple(condition.compared(self.facts, row) for condition in each.conditions))
            for number, each in enumerate(self.table[: int(self.chosen[row]) + 1], start=1)
        )


def decide(table: Sequence[Row], facts: Facts, customers: int) -> Decisions:
    """The first row of a table that holds, for each of some customers."""
    chosen = np.full(customers, len(table) - 1, dtype=np.int64)
    open_rows = np.ones(customers, dtype=np.bool_)
    for position, row in enumerate(table):
        holds = open_rows.copy()
        for condition in row.conditions:
            holds &= condition.holds(facts)
        chosen[holds] = position
        open_rows &= ~holds
    return Decisions(table, chosen, facts)


def holding(table: Sequence[Row], facts: Facts, customers: int) -> list[list[int]]:
    """Of each of some customers the positions of all rows that hold."""
    found: list[list[int]] = [[] for _ in range(customers)]
    for position, row in enumerate(table):
        holds = np.ones(customers, dtype=np.bool_)
        for condition in row.conditions:
            holds &= condition.holds(facts)
            if not holds.any():
                break
        for customer in np.flatnonzero(holds):
            found[customer].append(position)
    return found
