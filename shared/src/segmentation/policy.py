"""The versioned decision tables: facts about a customer -> grade, segment, service level and what is added to it.

Laws: rows are tried from the top, the first that holds decides (of additions all that hold count); every decision
carries the conditions that made it, with the facts as they were; comparisons of rates are exact; no row that can hold
for a private person makes an offer that changes the price.

A policy is read from text (TOML; `policies/default.toml` shows and explains the form) and is
refused as a whole, with the row and the field named, when anything in it is not understood.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from segmentation.conditions import (
    FIGURES,
    AnyOf,
    Compares,
    Comparison,
    Condition,
    Decisions,
    Facts,
    OneOf,
    Reason,
    Row,
    Tried,
    decide,
    holding,
)
from segmentation.dispatch import STANDARD_DISPATCH, DispatchRules, parse_dispatch
from segmentation.errors import PolicyInvalid
from segmentation.metrics import WINDOWS
from segmentation.risk import CHURN_PROBABILITY, STANDARD_RISK, WARNED, RiskRules, parse_risk
from segmentation.segments import STAGES, LifecycleRules, parse_lifecycle_rules
from segmentation.services import (
    STANDARD_RELATIONSHIP,
    Addition,
    Care,
    Described,
    Named,
    Offer,
    RelationshipRules,
    ServiceLevel,
    composed,
    parse_addition,
    parse_level,
    parse_offers,
    parse_playbooks,
    parse_relationship,
    price_offers,
)
from segmentation.tiering import TIERS, TierRules, parse_tier_rules
from segmentation.toml_tables import LANGUAGES, TomlTable, listed
from segmentation.traits import INDUSTRIES, SUBJECT_TYPES, parse_needs
from segmentation.worth import LEVELS, SIZES, STANDARD_WORTH, WORTH_WINDOWS, WorthRules, parse_worth

__all__ = [
    "ATTRIBUTE",
    "GRADES",
    "LANGUAGES",
    "TIER_WINDOW",
    "AnyOf",
    "Compares",
    "Comparison",
    "Decisions",
    "Facts",
    "Named",
    "OneOf",
    "Policy",
    "Reason",
    "Row",
    "ServiceLevel",
    "Tried",
    "decide",
    "holding",
    "parse",
]

GRADES: Final = ("strategic", "key", "general")
TIER_WINDOW: Final = "365d"

_COMPARISON = re.compile(r"(<=|>=|<|>|==)\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)", re.ASCII)

_CODED: Final[Mapping[str, Sequence[str]]] = {
    "value_level": LEVELS,
    "contribution": LEVELS,
    "potential": LEVELS,
    "size": SIZES,
    "frequency": LEVELS,
    "subject_type": SUBJECT_TYPES,
    "industry": INDUSTRIES,
    "churn_warning": WARNED,
}
"""Facts with codes of our own, beside tier, lifecycle, grade and segment."""
_OPEN: Final = ("region", "channel", "needs", "behaviour")
"""Facts with whatever codes producers send, or a model brings; so are a customer's attributes."""
ATTRIBUTE: Final = "attributes."
LONGEST_OPEN: Final = 64


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
    worth: WorthRules = STANDARD_WORTH
    unit: int = 100
    """Minor units in one unit of the base currency, which amounts in the policy are in."""
    needs_of_services: Mapping[str, str] = field(default_factory=dict)
    """The need that ordering a service shows."""
    needs_from_orders: int = 1
    """How many counting orders with such a service show it."""
    grade_table: tuple[Row, ...] = (Row("general", ()),)
    additions: tuple[Addition, ...] = ()
    addition_table: tuple[Row, ...] = ()
    """The conditions of each addition, at its position."""
    offers: Mapping[str, Offer] = field(default_factory=dict)
    playbooks: Mapping[str, Described] = field(default_factory=dict)
    relationship: RelationshipRules = STANDARD_RELATIONSHIP
    dispatch: DispatchRules = STANDARD_DISPATCH
    risk: RiskRules = STANDARD_RISK

    @property
    def decimals(self) -> int:
        """Of the base currency."""
        return len(str(self.unit)) - 1

    def care(self, level: str, additions: Sequence[str]) -> Care:
        """All that is done for a customer of a level, to whom these additions apply."""
        return composed(self.service_levels[level], [each for each in self.additions if each.code in additions])

    @property
    def asked(self) -> frozenset[str]:
        """The facts that any condition names."""
        rows = (*self.grade_table, *self.segment_table, *self.grant_table, *self.addition_table)
        return frozenset(condition.fact for row in rows for condition in row.conditions)

    @property
    def windows(self) -> frozenset[str]:
        """The windows that a decision depends on: the tier's own, and those that conditions name."""
        rows = (*self.grade_table, *self.segment_table, *self.grant_table, *self.addition_table)
        conditions = (condition for row in rows for condition in row.conditions)
        named = {condition.window for condition in conditions if isinstance(condition, Compares)}
        return frozenset(window for window in named | {TIER_WINDOW} | WORTH_WINDOWS if window is not None)


def parse(text: str, *, version: int, decimals: int = 2) -> Policy:
    """Reads a policy.

    Args:
        text: TOML.
        version: What it is known by.
        decimals: Of the base currency.

    Raises:
        PolicyInvalid: names the table, the row and the field.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyInvalid(f"the policy is not valid TOML: {error}") from None
    root = TomlTable(document, "the policy")
    name = root.text("name")
    default_level = root.text("default_level")
    tiers = parse_tier_rules(TomlTable(root.table("tiers"), "[tiers]"))
    lifecycle = parse_lifecycle_rules(TomlTable(root.table("lifecycle"), "[lifecycle]"))
    worth = parse_worth(root)
    needs_of_services, needs_from_orders = parse_needs(root.section("needs"))
    relationship = parse_relationship(root)
    dispatch = parse_dispatch(root)
    risk = parse_risk(root.section("risk"))
    offers, playbooks = parse_offers(root), parse_playbooks(root)
    grade_rows = root.optional_rows("grades")
    segment_rows = root.rows("segments")
    segments = [Named(row.code("code"), row.names("name")) for row in segment_rows]
    levels = [parse_level(row, tuple(offers), tuple(playbooks)) for row in root.rows("service_levels")]
    addition_rows = root.optional_rows("additions")
    additions = [parse_addition(row, tuple(offers), tuple(playbooks)) for row in addition_rows]
    grants = root.rows("grants")
    root.finish()

    segment_codes = tuple(segment.code for segment in segments)
    level_codes = tuple(level.code for level in levels)
    if default_level not in level_codes:
        raise PolicyInvalid(f"default_level is {default_level!r}; one of {listed(level_codes)} is expected")
    coded: dict[str, Sequence[str]] = {"tier": tuple(TIERS), "lifecycle": tuple(STAGES), **_CODED}
    with_grade = coded | {"grade": GRADES}
    with_segment = with_grade | {"segment": segment_codes}
    grade_table = _parse_rows(grade_rows, GRADES, coded, decides="code") if grade_rows else (Row(GRADES[-1], ()),)
    segment_table = _parse_rows(segment_rows, segment_codes, with_grade, decides="code")
    grant_table = _parse_rows(grants, level_codes, with_segment, decides="level")
    addition_table = tuple(
        Row(addition.code, _parse_conditions(row, with_segment))
        for row, addition in zip(addition_rows, additions, strict=True)
    )
    for row in grade_rows + segment_rows + grants + addition_rows:
        row.finish()
    _refuse_repeats("[[segments]]", segment_codes)
    _refuse_repeats("[[service_levels]]", level_codes)
    _refuse_repeats("[[additions]]", tuple(addition.code for addition in additions))
    policy = Policy(
        version=version,
        name=name,
        tiers=tiers,
        lifecycle=lifecycle,
        segments={segment.code: segment for segment in segments},
        segment_table=segment_table,
        service_levels={level.code: level for level in levels},
        grant_table=grant_table,
        default_level=default_level,
        worth=worth,
        unit=10**decimals,
        needs_of_services=needs_of_services,
        needs_from_orders=needs_from_orders,
        grade_table=grade_table,
        additions=tuple(additions),
        addition_table=addition_table,
        offers=offers,
        playbooks=playbooks,
        relationship=relationship,
        dispatch=dispatch,
        risk=risk,
    )
    _refuse_prices_for_persons(policy)
    return policy


def _refuse_prices_for_persons(policy: Policy) -> None:
    """No price difference by automated decision: whoever may be a private person is offered none."""
    remedy = 'add subject_type = ["company"] to its when, or take the offer out'
    default = price_offers(policy.service_levels[policy.default_level].care, policy.offers)
    if default:
        raise PolicyInvalid(
            f"default_level is {policy.default_level!r}, whose offers change the price ({default}), and whoever is "
            "unknown may be a private person; choose a level without such offers"
        )
    granted = [(f"[[grants]] row {number}: level", row) for number, row in enumerate(policy.grant_table, start=1)]
    added = [(f"[[additions]] row {number}: code", row) for number, row in enumerate(policy.addition_table, start=1)]
    cares = {level.code: level.care for level in policy.service_levels.values()}
    more = {addition.code: addition.care for addition in policy.additions}
    for rows, care_of in ((granted, cares), (added, more)):
        for title, row in rows:
            changing = price_offers(care_of[row.code], policy.offers)
            if changing and OneOf("subject_type", ("company",)) not in row.conditions:
                raise PolicyInvalid(
                    f"{title} is {row.code!r}, whose offers change the price ({changing}), and the row can hold for a "
                    f"private person; {remedy}"
                )


def _parse_rows(
    rows: Sequence[TomlTable], allowed: Sequence[str], coded: Mapping[str, Sequence[str]], *, decides: str
) -> tuple[Row, ...]:
    parsed: list[Row] = []
    for row in rows:
        code = row.code(decides)
        if code not in allowed:
            raise PolicyInvalid(f"{row.title}: {decides} is {code!r}; one of {', '.join(allowed)} is expected")
        parsed.append(Row(code, _parse_conditions(row, coded)))
    if parsed[-1].conditions:
        raise PolicyInvalid(f"{rows[-1].title}: the last row must have no conditions, so that everyone gets a decision")
    return tuple(parsed)


def _parse_conditions(row: TomlTable, coded: Mapping[str, Sequence[str]]) -> tuple[Condition, ...]:
    when = row.optional("when")
    if not isinstance(when, dict | None):
        raise PolicyInvalid(f"{row.title}: when is {when!r}; conditions in braces are expected")
    conditions: list[Condition] = []
    for fact, asked in (when or {}).items():
        if fact == "attributes" and isinstance(asked, dict):  # attributes.credit_hold without quotes
            conditions += [_parse_condition(row.title, f"{ATTRIBUTE}{key}", each, coded) for key, each in asked.items()]
        else:
            conditions.append(_parse_condition(row.title, fact, asked, coded))
    return tuple(conditions)


def _refuse_repeats(title: str, codes: Sequence[str]) -> None:
    for row, code in enumerate(codes, start=1):
        if code in codes[: row - 1]:
            raise PolicyInvalid(f"{title} row {row}: code is {code!r}, as in an earlier row; each needs its own")


def _parse_condition(title: str, fact: str, asked: object, coded: Mapping[str, Sequence[str]]) -> Condition:
    if fact in coded:
        if not isinstance(asked, list) or not asked or not all(code in coded[fact] for code in asked):
            raise PolicyInvalid(f"{title}: {fact} is {asked!r}; a list of {', '.join(coded[fact])} is expected")
        return OneOf(fact, tuple(asked))
    if fact in _OPEN or fact.startswith(ATTRIBUTE):
        if not isinstance(asked, list) or not asked or not all(isinstance(each, str) and each for each in asked):
            raise PolicyInvalid(f"{title}: {fact} is {asked!r}; a list of texts in quotes is expected")
        if max(map(len, asked)) > LONGEST_OPEN or len(fact) > len(ATTRIBUTE) + LONGEST_OPEN:
            raise PolicyInvalid(f"{title}: {fact} is {asked!r}; at most {LONGEST_OPEN} characters each are expected")
        return AnyOf(fact, tuple(asked)) if fact == "needs" else OneOf(fact, tuple(asked))
    figure, _, last = fact.rpartition("_")
    window = last if figure in FIGURES and last in WINDOWS else None
    if window is None and fact != CHURN_PROBABILITY:
        raise PolicyInvalid(
            f"{title}: {fact} is no fact; {', '.join(coded)}, {', '.join(_OPEN)}, attributes.<key>, "
            f"{CHURN_PROBABILITY}, or one of {', '.join(FIGURES)} followed by _{', _'.join(WINDOWS)} is expected"
        )
    match = _COMPARISON.fullmatch(asked) if isinstance(asked, str) else None
    if match is None:
        raise PolicyInvalid(f'{title}: {fact} is {asked!r}; a comparison such as ">= 0.3" is expected')
    return Compares(fact, figure if window else fact, window, match[1], Fraction(match[2]))
