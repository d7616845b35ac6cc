"""The versioned decision table: tier x lifecycle x segment x rates -> segment and service level.

Laws: rows are tried from the top, the first that holds decides; every decision carries the
conditions that made it, with the facts as they were; comparisons of rates are exact.

A policy is read from text (TOML; `policies/default.toml` shows and explains the form) and is
refused as a whole, with the row and the field named, when anything in it is not understood.
"""

import operator
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from segmentation.errors import PolicyInvalid
from segmentation.metrics import WINDOWS, Column, Metrics
from segmentation.segments import STAGES, LifecycleRules
from segmentation.tiering import TIERS, Basis, Tier, TierRules

LANGUAGES: Final = ("en", "zh")
TIER_WINDOW: Final = "365d"

_CODE = re.compile(r"[a-z0-9][a-z0-9_]{0,63}", re.ASCII)
_COMPARISON = re.compile(r"(<=|>=|<|>|==)\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)", re.ASCII)
_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_FIGURES: Final[Mapping[str, tuple[str, str | None]]] = {
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
    "override": {"en": "override", "zh": "人工指定"},
}


class Comparison(NamedTuple):
    """One condition held against one customer."""

    fact: str
    value: str | None
    """None where there is none: a rate without a denominator."""
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


@dataclass(frozen=True, slots=True)
class OneOf:
    """The fact is one of these codes."""

    fact: str
    codes: tuple[str, ...]

    def holds(self, facts: Facts) -> npt.NDArray[np.bool_]:
        column, names = facts.codes[self.fact]
        return np.isin(column, [names.index(code) for code in self.codes])

    def reason(self, facts: Facts, row: int) -> Reason:
        column, names = facts.codes[self.fact]
        return Reason(self.fact, names[int(column[row])])

    def compared(self, facts: Facts, row: int) -> Comparison:
        value = self.reason(facts, row).value
        return Comparison(self.fact, value, ", ".join(self.codes), bool(self.holds(facts)[row]))


@dataclass(frozen=True, slots=True)
class Compares:
    """A figure over a window compares so with a threshold; a rate without a denominator never holds."""

    fact: str
    figure: str
    window: str
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
        window = facts.metrics.windows[self.window]
        above, below = _FIGURES[self.figure]
        return window[above], window[below] if below else np.ones_like(window[above])


Condition = OneOf | Compares


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


@dataclass(frozen=True, slots=True)
class Named:
    """Something with a code and a name in each language."""

    code: str
    names: Mapping[str, str]

    def name(self, language: str) -> str:
        return self.names[language]


@dataclass(frozen=True, slots=True)
class ServiceLevel(Named):
    """What is done for a customer."""

    descriptions: Mapping[str, str]
    dispatch_priority: int
    """0 to 100, the highest goes first."""
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that is decided by policy, understood and consistent."""

    version: int
    name: str
    tiers: TierRules
    lifecycle: LifecycleRules
    segments: Mapping[str, Named]
    segment_table: tuple[Row, ...]
    service_levels: Mapping[str, ServiceLevel]
    grant_table: tuple[Row, ...]
    default_level: str
    """The service level of customers nobody has heard of."""

    @property
    def windows(self) -> frozenset[str]:
        """The windows that a decision depends on: the tier's own, and those that conditions name."""
        conditions = (condition for row in self.segment_table + self.grant_table for condition in row.conditions)
        named = {condition.window for condition in conditions if isinstance(condition, Compares)}
        return frozenset(named | {TIER_WINDOW})


def parse(text: str, *, version: int) -> Policy:
    """Reads a policy.

    Raises:
        PolicyInvalid: names the table, the row and the field.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyInvalid(f"the policy is not valid TOML: {error}") from None
    root = _Table(document, "the policy")
    name = root.text("name")
    default_level = root.text("default_level")
    tiers = _parse_tiers(_Table(root.table("tiers"), "[tiers]"))
    lifecycle = _parse_lifecycle(_Table(root.table("lifecycle"), "[lifecycle]"))
    segment_rows = root.rows("segments")
    segments = [Named(row.code("code"), row.names("name")) for row in segment_rows]
    levels = [_parse_level(row) for row in root.rows("service_levels")]
    grants = root.rows("grants")
    root.finish()

    segment_codes = tuple(segment.code for segment in segments)
    level_codes = tuple(level.code for level in levels)
    if default_level not in level_codes:
        raise PolicyInvalid(f"default_level is {default_level!r}; one of {', '.join(level_codes)} is expected")
    coded = {"tier": tuple(TIERS), "lifecycle": tuple(STAGES)}
    segment_table = _parse_rows(segment_rows, segment_codes, coded, decides="code")
    grant_table = _parse_rows(grants, level_codes, coded | {"segment": segment_codes}, decides="level")
    for row in segment_rows + grants:
        row.finish()
    _refuse_repeats("[[segments]]", segment_codes)
    _refuse_repeats("[[service_levels]]", level_codes)
    return Policy(
        version=version,
        name=name,
        tiers=tiers,
        lifecycle=lifecycle,
        segments={segment.code: segment for segment in segments},
        segment_table=segment_table,
        service_levels={level.code: level for level in levels},
        grant_table=grant_table,
        default_level=default_level,
    )


class _Table:
    """A TOML table that knows what it is called and which of its fields were asked for."""

    def __init__(self, fields: Mapping[str, Any], title: str) -> None:
        self._fields = fields
        self._asked: set[str] = set()
        self.title = title

    def get(self, name: str, kind: type, expected: str) -> Any:  # noqa: ANN401 - of the kind asked for
        self._asked.add(name)
        value = self._fields.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            shown = "is missing" if value is None else f"is {value!r}"
            raise PolicyInvalid(f"{self.title}: {name} {shown}; {expected} is expected")
        return value

    def text(self, name: str) -> str:
        value: str = self.get(name, str, "a text in quotes")
        return value

    def code(self, name: str) -> str:
        value = self.text(name)
        if not _CODE.fullmatch(value):
            raise PolicyInvalid(f"{self.title}: {name} is {value!r}; lower-case letters, digits and _ are expected")
        return value

    def integer(self, name: str, lowest: int, highest: int) -> int:
        value: int = self.get(name, int, f"a whole number from {lowest} to {highest}")
        if not lowest <= value <= highest:
            raise PolicyInvalid(f"{self.title}: {name} is {value}; {lowest} to {highest} is expected")
        return value

    def share(self, name: str) -> Fraction:
        value = self.text(name)
        if not re.fullmatch(r"(0(\.[0-9]{1,9})?|1(\.0{1,9})?)", value, re.ASCII) or not Fraction(value):
            raise PolicyInvalid(f'{self.title}: {name} is {value!r}; a share in quotes is expected, such as "0.80"')
        return Fraction(value)

    def names(self, name: str) -> Mapping[str, str]:
        names = _Table(self.get(name, dict, "a name in each language"), f"{self.title}, {name}")
        found = {language: names.text(language) for language in LANGUAGES}
        names.finish()
        return found

    def table(self, name: str) -> Mapping[str, Any]:
        value: Mapping[str, Any] = self.get(name, dict, f"a table [{name}]")
        return value

    def rows(self, name: str) -> list["_Table"]:
        rows = self.get(name, list, f"at least one row [[{name}]]")
        if not rows or not all(isinstance(row, dict) for row in rows):
            raise PolicyInvalid(f"{self.title}: {name} has no rows; at least one [[{name}]] is expected")
        return [_Table(row, f"[[{name}]] row {number}") for number, row in enumerate(rows, start=1)]

    def optional(self, name: str) -> Any:  # noqa: ANN401 - any TOML value
        self._asked.add(name)
        return self._fields.get(name)

    def finish(self) -> None:
        for name in self._fields:
            if name not in self._asked:
                raise PolicyInvalid(f"{self.title}: {name} is not understood; correct or remove it")


def _parse_tiers(table: _Table) -> TierRules:
    basis = table.text("basis")
    if basis not in tuple(Basis):
        raise PolicyInvalid(f"[tiers]: basis is {basis!r}; one of {', '.join(Basis)} is expected")
    rules = TierRules(
        Basis(basis), table.share("share_a"), table.share("share_b"), table.integer("demotion_grace_days", 0, 3_650)
    )
    if rules.share_b < rules.share_a:
        raise PolicyInvalid("[tiers]: share_b is smaller than share_a; it is the share of A and B together")
    table.finish()
    return rules


def _parse_lifecycle(table: _Table) -> LifecycleRules:
    rules = LifecycleRules(**{name: table.integer(name, 1, 3_650) for name in LifecycleRules.__slots__})
    if rules.shortest_rhythm_days > rules.longest_rhythm_days:
        raise PolicyInvalid("[lifecycle]: shortest_rhythm_days is greater than longest_rhythm_days")
    if rules.at_risk_after_rhythms > rules.dormant_after_rhythms:
        raise PolicyInvalid("[lifecycle]: at_risk_after_rhythms is greater than dormant_after_rhythms")
    table.finish()
    return rules


def _parse_level(row: _Table) -> ServiceLevel:
    actions = row.get("actions", list, "a list of codes")
    level = ServiceLevel(
        code=row.code("code"),
        names=row.names("name"),
        descriptions=row.names("description"),
        dispatch_priority=row.integer("dispatch_priority", 0, 100),
        actions=tuple(str(action) for action in actions),
    )
    row.finish()
    return level


def _parse_rows(
    rows: Sequence[_Table], allowed: Sequence[str], coded: Mapping[str, Sequence[str]], *, decides: str
) -> tuple[Row, ...]:
    parsed: list[Row] = []
    for row in rows:
        code = row.code(decides)
        if code not in allowed:
            raise PolicyInvalid(f"{row.title}: {decides} is {code!r}; one of {', '.join(allowed)} is expected")
        when = row.optional("when")
        if not isinstance(when, dict | None):
            raise PolicyInvalid(f"{row.title}: when is {when!r}; conditions in braces are expected")
        conditions = [_parse_condition(row.title, fact, asked, coded) for fact, asked in (when or {}).items()]
        parsed.append(Row(code, tuple(conditions)))
    if parsed[-1].conditions:
        raise PolicyInvalid(f"{rows[-1].title}: the last row must have no conditions, so that everyone gets a decision")
    return tuple(parsed)


def _refuse_repeats(title: str, codes: Sequence[str]) -> None:
    for row, code in enumerate(codes, start=1):
        if code in codes[: row - 1]:
            raise PolicyInvalid(f"{title} row {row}: code is {code!r}, as in an earlier row; each needs its own")


def _parse_condition(title: str, fact: str, asked: object, coded: Mapping[str, Sequence[str]]) -> Condition:
    if fact in coded:
        if not isinstance(asked, list) or not asked or not all(code in coded[fact] for code in asked):
            raise PolicyInvalid(f"{title}: {fact} is {asked!r}; a list of {', '.join(coded[fact])} is expected")
        return OneOf(fact, tuple(asked))
    figure, _, window = fact.rpartition("_")
    if figure not in _FIGURES or window not in WINDOWS:
        raise PolicyInvalid(
            f"{title}: {fact} is no fact; {', '.join(coded)}, or one of {', '.join(_FIGURES)} "
            f"followed by _{', _'.join(WINDOWS)} is expected"
        )
    match = _COMPARISON.fullmatch(asked) if isinstance(asked, str) else None
    if match is None:
        raise PolicyInvalid(f'{title}: {fact} is {asked!r}; a comparison such as ">= 0.3" is expected')
    return Compares(fact, figure, window, match[1], Fraction(match[2]))


def tier_facts(ranks: Column, stages: Column) -> dict[str, tuple[Column, Sequence[str]]]:
    """The coded facts known before segments are decided."""
    return {"tier": (ranks, TIERS), "lifecycle": (stages, STAGES)}


def value_level(tier: Tier) -> str:
    """How much a customer is worth, in the words of the answers."""
    return {Tier.A: "high", Tier.B: "medium"}.get(tier, "low")
