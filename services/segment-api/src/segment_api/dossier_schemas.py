"""Overrides, history and explanations, as they go over the wire."""

import re
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation

from segment_api.model_schemas import BEHAVIOUR_EXAMPLE, RISK_EXAMPLE, BehaviourExplanation, RiskExplanation
from segment_api.schemas import AsOf, Moment, NamedPart, OverridePart, Text, VersionsPart
from segmentation.overrides import LONGEST_AUTHOR, LONGEST_REASON, MOST_AT_ONCE
from segmentation.tiering import Tier

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _worded(text: str) -> str:
    if not text.strip() or "\x00" in text:
        raise ValueError("words are expected: not blank, and without U+0000")
    return text.strip()


def _day(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("a day such as 2026-12-31 is expected")
    return value


Words = Annotated[Text, AfterValidator(_worded)]
Amount = Annotated[
    str, Field(description="Decimal string in the `unit`, with exactly the base currency's decimals; orders without.")
]

# --- overrides ------------------------------------------------------------------------------------------------------

_ORDER_EXAMPLE: dict[str, Any] = {
    "tier": "A",
    "service_level": None,
    "reason": "Framework contract signed, first orders in January",
    "author": "li.wei",
    "expires_on": "2027-02-01",
}
_OVERRIDE_EXAMPLE: dict[str, Any] = _ORDER_EXAMPLE | {"set_at": "2026-11-22T08:15:30.120Z"}


class OverrideOrder(BaseModel):
    """What a person decides for a customer, over the rules and for a time."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _ORDER_EXAMPLE})

    tier: Tier | None = Field(None, description="The tier that counts; null or absent leaves it to the rules.")
    service_level: Text | None = Field(
        None, description="Code of the level that counts; null or absent leaves it to the policy."
    )
    reason: Words = Field(description="Why; shown with the answer.", min_length=1, max_length=LONGEST_REASON)
    author: Words | None = Field(
        None,
        description="Who decides it; shown with the answer. Absent, the name of the key or token; with AUTH=off it is "
        "required.",
        min_length=1,
        max_length=LONGEST_AUTHOR,
    )
    expires_on: Annotated[date, BeforeValidator(_day)] = Field(
        description="The first business day on which it no longer counts; later than the current one."
    )


class OverrideRow(OverrideOrder):
    """The same for one customer of several."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"customer_id": "C-1042"} | _ORDER_EXAMPLE})

    customer_id: Text = Field(description="Whom it is for.")


class OverridesQuestion(BaseModel):
    """Overrides of many customers."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"overrides": [{"customer_id": "C-1042"} | _ORDER_EXAMPLE]}}
    )

    # Each row is judged by itself: a wrong one gets an outcome of its own and stops no other.
    overrides: list[SkipValidation[OverrideRow]] = Field(
        max_length=MOST_AT_ONCE, description=f"Up to {MOST_AT_ONCE:,}, of different customers."
    )


class OverrideOutcome(BaseModel):
    """What became of one row."""

    row: int = Field(description="Which one, counted from 0.")
    customer_id: str | None = Field(description="As given, where it is text.")
    outcome: str = Field(description="`set`, `unknown_customer` or `invalid`.")
    field: str | None = Field(description="The field that is wrong, where it is one.")
    detail: str | None = Field(description="What is wrong, and what to send instead.")


class OverridesAnswer(BaseModel):
    """What became of each row."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "set": 1,
                "outcomes": [
                    {"row": 0, "customer_id": "C-1042", "outcome": "set", "field": None, "detail": None},
                    {
                        "row": 1,
                        "customer_id": "nobody",
                        "outcome": "unknown_customer",
                        "field": None,
                        "detail": "no such customer is known",
                    },
                ],
            }
        }
    )

    set: int = Field(description="How many were set, all in one transaction.")
    outcomes: list[OverrideOutcome] = Field(description="One a row, in the order given.")


# --- history --------------------------------------------------------------------------------------------------------


class StandingPart(BaseModel):
    """Where a customer stood."""

    value_tier: str = Field(description="The effective tier.")
    computed_tier: str = Field(description="The tier by the ranking alone.")
    lifecycle: NamedPart
    segment: NamedPart
    service_level: NamedPart
    churn_warning: bool = Field(description="Whether there was a churn warning.")


class HistoryEntryPart(BaseModel):
    """One change."""

    as_of: date = Field(description="The business day that it was assessed for.")
    recorded_at: Moment = Field(description="When it was recorded, by the database's clock.")
    kind: str = Field(description="`change`, `override_set`, `override_ended` (by hand) or `override_expired`.")
    before: StandingPart | None = Field(description="Where the customer stood; null when it was first heard of.")
    after: StandingPart
    reasons: list[str] = Field(description="Of the segment, of the service level, and of a churn warning, in words.")
    override: OverridePart | None = Field(description="The override that was set, that ended, or that expired.")
    author: str | None = Field(description="Who set or ended the override, if that was said.")
    reason: str | None = Field(description="Why the override was set or ended, if that was said.")
    versions: VersionsPart


_STOOD: dict[str, Any] = {
    "value_tier": "B",
    "computed_tier": "B",
    "lifecycle": {"code": "active", "name": "active"},
    "segment": {"code": "core", "name": "Core customer"},
    "service_level": {"code": "stable", "name": "Stable and reliable"},
    "churn_warning": False,
}
_STANDS: dict[str, Any] = {
    "value_tier": "A",
    "computed_tier": "B",
    "lifecycle": {"code": "active", "name": "active"},
    "segment": {"code": "strategic", "name": "Strategic partner"},
    "service_level": {"code": "vip", "name": "VIP"},
    "churn_warning": False,
}


class HistoryAnswer(BaseModel):
    """What became of a customer, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "customer_id": "C-1042",
                "as_of": "2026-11-22",
                "history": [
                    {
                        "as_of": "2026-11-22",
                        "recorded_at": "2026-11-22T08:15:30.120Z",
                        "kind": "override_set",
                        "before": _STOOD,
                        "after": _STANDS,
                        "reasons": ["tier A", "tier A"],
                        "override": _OVERRIDE_EXAMPLE,
                        "author": "li.wei",
                        "reason": "Framework contract signed, first orders in January",
                        "versions": {"policy": 1, "model": None},
                    }
                ],
                "next": "/customers/C-1042/history?limit=1&cursor=AAAAAAAAABE",
            }
        }
    )

    customer_id: str
    as_of: AsOf
    history: list[HistoryEntryPart] = Field(description="Newest first.")
    next: str | None = Field(description="Path of the next page, which never shifts; null on the last one.")


# --- explanation ----------------------------------------------------------------------------------------------------


class StandingAt(BaseModel):
    """The last customer inside a tier."""

    value: Amount
    customer_id: str


class GapPart(BaseModel):
    """How far a neighbouring tier is."""

    tier: str
    amount: Amount = Field(description="How much more, or less, the cut-offs staying where they are.")


class TierExplanation(BaseModel):
    """The value tier: what was held against what."""

    effective: str = Field(description="The tier that counts.")
    computed: str = Field(description="The tier by the ranking alone.")
    decided_by: str = Field(description="What made it the effective one: `ranking`, `grace` or `override`.")
    since: date = Field(description="Since when the effective tier has stood.")
    basis: str = Field(description="What customers are ranked by, over 365 days.")
    unit: str = Field(description="Of the amounts: the base currency, or `orders`.")
    value: Amount | None = Field(description="What the customer is ranked by; null where there is none.")
    cutoffs: dict[str, StandingAt | None] = Field(
        description="The last customer inside A, and inside B: whoever has more is in, of equals those whose id does "
        "not come after."
    )
    next: GapPart | None = Field(description="How much more would move the computed tier up; null from A.")
    previous: GapPart | None = Field(description="How much less would move it down; null from unrated.")
    grace_days: int = Field(description="So many days a better tier still counts.")
    demotion_due: date | None = Field(description="The day on which the effective tier falls if nothing changes.")
    words: list[str] = Field(description="The same in words, with what would have to happen to move.")


class BoundaryPart(BaseModel):
    """Where a stage begins."""

    stage: NamedPart
    from_day: date = Field(description="Its first day, if nothing more is ordered.")
    days: int = Field(
        description="More than so many days since the last order; for `active`, so many since "
        "the first, or since it came back."
    )


class LifecycleExplanation(BaseModel):
    """The stage of the lifecycle, by the customer's own rhythm."""

    stage: NamedPart
    first_order_day: date | None
    last_order_day: date | None
    recency_days: int | None = Field(description="Days since the last order; null without orders.")
    rhythm_days: int = Field(description="Days between its order days, rounded up, within the policy's bounds.")
    rhythm_is_own: bool = Field(description="False where the policy's default stands for it.")
    boundaries: list[BoundaryPart] = Field(description="Of every stage that time alone leads to.")
    came_back_on: date | None = Field(
        description="The last order day after a silence that had made it dormant or lost; null where there was none."
    )
    moves_on: date | None = Field(description="The day on which silence alone changes the stage; null for never.")
    moves_to: NamedPart | None = Field(description="To which.")
    words: list[str] = Field(description="The same in words.")


class ConditionPart(BaseModel):
    """One condition, held against the customer."""

    fact: str = Field(description="What was looked at, as the policy names it.")
    value: str | None = Field(description="What it is; null where it has no value, such as a rate without orders.")
    condition: str = Field(description="What is asked of it: one of these codes, or a comparison.")
    holds: bool = Field(description="Whether that is so.")


class TriedRow(BaseModel):
    """One row of the policy's table, tried for the customer."""

    row: int = Field(description="Counted from 1, as in the policy.")
    code: str = Field(description="What it decides.")
    holds: bool = Field(description="Whether all of its conditions hold; the first row for which they do decides.")
    conditions: list[ConditionPart] = Field(description="Empty for a row that holds for everyone.")


class ValueExplanation(BaseModel):
    """The value level, and what makes it."""

    level: str = Field(description="high, medium or low: the contribution, a level up or down by the potential.")
    contribution: str = Field(description="high, medium or low, by the tier; a level lower where it brings a loss.")
    potential: str = Field(description="high, medium or low: what the next 90 days promise, beside an average quarter.")
    size: str = Field(description="large, medium or small, by net revenue over 365 days.")
    frequency: str = Field(description="high, medium or low, by orders over 90 days.")
    words: list[str] = Field(description="The same in words.")


class RowExplanation(BaseModel):
    """What a table of the policy decided, and every row that was tried for it."""

    code: str = Field(description="What was decided.")
    name: str = Field(description="Its name in the language of `Accept-Language` (en, zh).")
    decided_by: str = Field(description="`policy` or `override`.")
    row: int = Field(description="The policy's row that decided, or would have without an override.")
    tried: list[TriedRow] = Field(description="From the top; the last one holds.")
    reasons: list[str] = Field(description="What made the decision, in words.")
    words: list[str] = Field(description="The same in sentences, with what kept the rows before it from deciding.")


class ExplanationAnswer(BaseModel):
    """Why a customer stands where it stands."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "customer_id": "C-1042",
                "as_of": "2026-11-22",
                "tier": {
                    "effective": "B",
                    "computed": "B",
                    "decided_by": "ranking",
                    "since": "2026-06-14",
                    "basis": "net_revenue",
                    "unit": "CNY",
                    "value": "1327.13",
                    "cutoffs": {
                        "A": {"value": "1447.14", "customer_id": "14591"},
                        "B": {"value": "455.30", "customer_id": "15585"},
                    },
                    "next": {"tier": "A", "amount": "120.02"},
                    "previous": {"tier": "C", "amount": "871.83"},
                    "grace_days": 14,
                    "demotion_due": None,
                    "words": ["120.02 CNY more of net revenue over 365 days would make it tier A."],
                },
                "lifecycle": {
                    "stage": {"code": "active", "name": "active"},
                    "first_order_day": "2025-02-11",
                    "last_order_day": "2026-11-20",
                    "recency_days": 2,
                    "rhythm_days": 7,
                    "rhythm_is_own": True,
                    "boundaries": [
                        {"stage": {"code": "at_risk", "name": "at risk"}, "from_day": "2026-12-12", "days": 21}
                    ],
                    "came_back_on": None,
                    "moves_on": "2026-12-12",
                    "moves_to": {"code": "at_risk", "name": "at risk"},
                    "words": ["Without another order it becomes at risk on 2026-12-12."],
                },
                "value_level": {
                    "level": "medium",
                    "contribution": "medium",
                    "potential": "medium",
                    "size": "small",
                    "frequency": "high",
                    "words": ["Contribution is medium and potential medium: the value level is medium."],
                },
                "grade": {
                    "code": "key",
                    "name": "key",
                    "decided_by": "policy",
                    "row": 3,
                    "tried": [
                        {
                            "row": 3,
                            "code": "key",
                            "holds": True,
                            "conditions": [
                                {"fact": "value_level", "value": "medium", "condition": "medium", "holds": True},
                                {"fact": "frequency", "value": "high", "condition": "high", "holds": True},
                            ],
                        }
                    ],
                    "reasons": ["value level medium", "frequency high"],
                    "words": ["Row 3 of the grades decides: value level medium, frequency high."],
                },
                "segment": {
                    "code": "core",
                    "name": "Core customer",
                    "decided_by": "policy",
                    "row": 6,
                    "tried": [
                        {
                            "row": 6,
                            "code": "core",
                            "holds": True,
                            "conditions": [{"fact": "tier", "value": "B", "condition": "B", "holds": True}],
                        }
                    ],
                    "reasons": ["tier B"],
                    "words": ["Row 6 of the segments decides: tier B."],
                },
                "service_level": {
                    "code": "stable",
                    "name": "Stable and reliable",
                    "decided_by": "policy",
                    "row": 2,
                    "tried": [
                        {
                            "row": 2,
                            "code": "stable",
                            "holds": True,
                            "conditions": [{"fact": "tier", "value": "B", "condition": "B", "holds": True}],
                        }
                    ],
                    "reasons": ["tier B"],
                    "words": ["Row 2 of the grants decides: tier B."],
                },
                "risk": RISK_EXAMPLE,
                "behaviour": BEHAVIOUR_EXAMPLE,
                "override": None,
                "stale": False,
                "versions": {"policy": 1, "model": 7},
            }
        }
    )

    customer_id: str
    as_of: AsOf
    tier: TierExplanation
    lifecycle: LifecycleExplanation
    value_level: ValueExplanation
    grade: RowExplanation = Field(description="The customer grade: strategic, key or general.")
    risk: RiskExplanation
    behaviour: BehaviourExplanation | None = Field(
        description="By the model: the segment that is shown. Null where no model knows the customer."
    )
    segment: RowExplanation = Field(
        description="By the policy's table: what the policy goes on with, and the segment that is shown where no model "
        "knows the customer."
    )
    service_level: RowExplanation
    override: OverridePart | None = Field(description="What a person decided over the rules, while it counts.")
    stale: bool = Field(description="As in the answer that is explained: the cut-offs are behind.")
    versions: VersionsPart
