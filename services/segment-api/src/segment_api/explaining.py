"""Explanations and histories -> what the API answers: the numbers of the domain, and the same in words."""

from collections.abc import Mapping
from typing import Final

from segment_api import dossier_schemas, schemas
from segment_api.outlooks import present_behaviour, present_risk
from segment_api.presenting import present_named_segment, present_override
from segmentation.assessment import Snapshot
from segmentation.chronicle import EntryKind, HistoryEntry
from segmentation.dossiers import History
from segmentation.explanation import (
    DecidedBy,
    Explanation,
    LifecycleExplained,
    RowExplained,
    TierExplained,
    ValueExplained,
)
from segmentation.money import format_minor
from segmentation.overrides import Override
from segmentation.policy import GRADES, Named, Policy, Tried
from segmentation.segments import Lifecycle
from segmentation.tiering import Basis, Gap, Standing, Tier
from segmentation.worth import LEVELS, SIZES

_STAGES: Final[Mapping[str, Mapping[Lifecycle, str]]] = {
    "en": {stage: stage.replace("_", " ") for stage in Lifecycle},
    "zh": {
        Lifecycle.PROSPECT: "潜在客户",
        Lifecycle.NEW: "新客户",
        Lifecycle.ACTIVE: "活跃",
        Lifecycle.AT_RISK: "流失风险",
        Lifecycle.DORMANT: "沉默",
        Lifecycle.LOST: "已流失",
        Lifecycle.WON_BACK: "已赢回",
    },
}
_BASES: Final[Mapping[str, Mapping[Basis, str]]] = {
    "en": {
        Basis.NET_REVENUE: "net revenue",
        Basis.GROSS_PROFIT: "gross profit",
        Basis.ORDERS: "orders",
    },
    "zh": {Basis.NET_REVENUE: "净收入", Basis.GROSS_PROFIT: "毛利", Basis.ORDERS: "订单数"},
}
_TIERS: Final[Mapping[str, Mapping[Tier, str]]] = {
    "en": {tier: "unrated" if tier is Tier.UNRATED else f"tier {tier}" for tier in Tier},
    "zh": {tier: "未评级" if tier is Tier.UNRATED else f"{tier} 级" for tier in Tier},
}
_UNITS: Final = {"en": {"orders": "orders"}, "zh": {"orders": "单"}}
_LEVELS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {level: level for level in LEVELS},
    "zh": dict(zip(LEVELS, ("高", "中", "低"), strict=True)),
}
_SIZES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {size: size for size in SIZES},
    "zh": dict(zip(SIZES, ("大型", "中型", "小型"), strict=True)),
}
_GRADES: Final[Mapping[str, Named]] = {
    code: Named(code, {"en": code, "zh": chinese})
    for code, chinese in zip(GRADES, ("战略客户", "重点客户", "一般客户"), strict=True)
}
_TABLES: Final = {
    "en": {"grade": "grades", "segment": "segments", "level": "grants"},
    "zh": {"grade": "客户级别", "segment": "客户群", "level": "服务等级"},
}
_NONE: Final = {"en": "none", "zh": "无"}
_SENTENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "value": "{basis} over 365 days: {value} {unit}.",
        "no_value": "There is no {basis} over 365 days to rank it by.",
        "cutoff": "Tier {tier} ends at {value} {unit}, with customer {customer_id}.",
        "ranking": "By the ranking it is {computed}.",
        "grace": "{effective} still counts until {day}: a better tier outlasts a fall by {days} days.",
        "tier_by_hand": "{author} set {effective} by hand, until {day}: {reason}",
        "next": "{amount} {unit} more would make it {tier}.",
        "previous": "{amount} {unit} less would make it {tier}.",
        "no_order": "It has not ordered yet; its first order makes it new.",
        "silent": "Its last order is of {day}, {days} days ago.",
        "own_rhythm": "It orders every {days} days.",
        "default_rhythm": "It has no rhythm of its own yet; {days} days are assumed.",
        "came_back": "It came back on {day}, after a silence that had made it dormant or lost.",
        "stage": "So it is {stage}.",
        "moves": "Without another order it becomes {stage} on {day}.",
        "stays": "Without another order it stays so.",
        "worth": "Contribution is {contribution} and potential {potential}: the value level is {level}.",
        "classes": "Its size is {size} by revenue over 365 days, its frequency {frequency} by orders over 90 days.",
        "decides": "Row {row} of the {table} decides: {reasons}.",
        "kept": "Row {row} ({name}) asks for {fact} {condition}; it is {value}.",
        "level_by_hand": "{author} set it by hand, until {day}: {reason}",
    },
    "zh": {
        "value": "近 365 天{basis}: {value} {unit}。",
        "no_value": "近 365 天没有可供排名的{basis}。",
        "cutoff": "{tier} 级止于 {value} {unit} (客户 {customer_id})。",
        "ranking": "按排名为{computed}。",
        "grace": "{effective}仍有效, {day} 起下降: 降级有 {days} 天宽限期。",
        "tier_by_hand": "{author} 人工指定为{effective}, {day} 起失效: {reason}",
        "next": "再增加 {amount} {unit} 即为{tier}。",
        "previous": "减少 {amount} {unit} 即为{tier}。",
        "no_order": "尚未下单; 首单后成为新客户。",
        "silent": "最近一次下单在 {day}, 距今 {days} 天。",
        "own_rhythm": "平均每 {days} 天下单一次。",
        "default_rhythm": "尚无自己的下单节奏; 按 {days} 天计。",
        "came_back": "曾沉默或流失, {day} 重新下单。",
        "stage": "因此为{stage}。",
        "moves": "若不再下单, {day} 起变为{stage}。",
        "stays": "若不再下单, 保持不变。",
        "worth": "贡献为{contribution}, 潜力为{potential}: 价值级别为{level}。",
        "classes": "按近 365 天收入规模为{size}, 按近 90 天订单频次为{frequency}。",
        "decides": "{table}表第 {row} 行决定: {reasons}。",
        "kept": "第 {row} 行 ({name}) 要求 {fact} {condition}; 实际为 {value}。",
        "level_by_hand": "{author} 人工指定, {day} 起失效: {reason}",
    },
}


class _Voice:
    """One language, and how amounts are said in it."""

    def __init__(self, language: str, basis: Basis, *, currency: str, decimals: int) -> None:
        self.language = language
        self.unit = "orders" if basis is Basis.ORDERS else currency
        self._decimals = 0 if basis is Basis.ORDERS else decimals
        self._sentences = _SENTENCES[language]

    def amount(self, value: int) -> str:
        return format_minor(value, self._decimals)

    def say(self, sentence: str, **parts: object) -> str:
        unit = _UNITS[self.language].get(self.unit, self.unit)
        return self._sentences[sentence].format(unit=unit, **parts)

    def stage(self, stage: Lifecycle) -> schemas.NamedPart:
        return schemas.NamedPart(code=stage, name=_STAGES[self.language][stage])


def present_explanation(
    explanation: Explanation, policy: Policy, language: str, *, currency: str, decimals: int, stale: bool
) -> dossier_schemas.ExplanationAnswer:
    """Why a customer stands where it stands."""
    voice = _Voice(language, explanation.tier.basis, currency=currency, decimals=decimals)
    override = explanation.override
    return dossier_schemas.ExplanationAnswer(
        customer_id=explanation.customer_id,
        as_of=explanation.as_of,
        tier=_tier(explanation.tier, override, voice),
        lifecycle=_lifecycle(explanation.lifecycle, voice),
        value_level=_value(explanation.value, voice),
        risk=present_risk(explanation.risk, language, currency=currency, decimals=decimals),
        behaviour=present_behaviour(explanation.risk.forecast, language),
        grade=_row(explanation.grade, _GRADES, "grade", override, voice),
        segment=_row(explanation.segment, policy.segments, "segment", override, voice),
        service_level=_row(explanation.service_level, policy.service_levels, "level", override, voice),
        override=present_override(override),
        stale=stale,
        versions=schemas.VersionsPart(policy=explanation.policy_version, model=explanation.model_version or None),
    )


def _tier(tier: TierExplained, override: Override | None, voice: _Voice) -> dossier_schemas.TierExplanation:
    last = {Tier.A: tier.cutoffs.a, Tier.B: tier.cutoffs.b}
    return dossier_schemas.TierExplanation(
        effective=tier.effective,
        computed=tier.computed,
        decided_by=tier.decided_by,
        since=tier.since,
        basis=tier.basis,
        unit=voice.unit,
        value=None if tier.value is None else voice.amount(tier.value),
        cutoffs={name: _standing(each, voice) for name, each in last.items()},
        next=_gap(tier.gaps.next, voice),
        previous=_gap(tier.gaps.previous, voice),
        grace_days=tier.grace_days,
        demotion_due=tier.demotion_due,
        words=_tier_words(tier, last, override, voice),
    )


def _tier_words(
    tier: TierExplained, last: Mapping[Tier, Standing | None], override: Override | None, voice: _Voice
) -> list[str]:
    names, basis = _TIERS[voice.language], _BASES[voice.language][tier.basis]
    if tier.value is None:
        words = [voice.say("no_value", basis=basis)]
    else:
        words = [voice.say("value", basis=basis.capitalize(), value=voice.amount(tier.value))]
    words += [
        voice.say("cutoff", tier=name, value=voice.amount(each.value), customer_id=each.customer_id)
        for name, each in last.items()
        if each is not None
    ]
    words.append(voice.say("ranking", computed=names[tier.computed]))
    if tier.decided_by is DecidedBy.GRACE:
        words.append(voice.say("grace", effective=names[tier.effective], day=tier.demotion_due, days=tier.grace_days))
    if tier.decided_by is DecidedBy.OVERRIDE and override is not None:
        words.append(
            voice.say(
                "tier_by_hand",
                author=override.author,
                effective=names[tier.effective],
                day=override.expires_on,
                reason=override.reason,
            )
        )
    for sentence, gap in (("next", tier.gaps.next), ("previous", tier.gaps.previous)):
        if gap is not None:
            words.append(voice.say(sentence, amount=voice.amount(gap.amount), tier=names[gap.tier]))
    return words


def _standing(standing: Standing | None, voice: _Voice) -> dossier_schemas.StandingAt | None:
    if standing is None:
        return None
    return dossier_schemas.StandingAt(value=voice.amount(standing.value), customer_id=standing.customer_id)


def _gap(gap: Gap | None, voice: _Voice) -> dossier_schemas.GapPart | None:
    return None if gap is None else dossier_schemas.GapPart(tier=gap.tier, amount=voice.amount(gap.amount))


def _lifecycle(lifecycle: LifecycleExplained, voice: _Voice) -> dossier_schemas.LifecycleExplanation:
    stage = voice.stage(lifecycle.stage)
    moves_on, moves_to = lifecycle.moves or (None, None)
    if lifecycle.last_order_day is None:
        words = [voice.say("no_order")]
    else:
        rhythm = "own_rhythm" if lifecycle.rhythm_is_own else "default_rhythm"
        words = [
            voice.say("silent", day=lifecycle.last_order_day, days=lifecycle.recency_days),
            voice.say(rhythm, days=lifecycle.rhythm_days),
            *([voice.say("came_back", day=lifecycle.came_back_on)] if lifecycle.stage is Lifecycle.WON_BACK else []),
            voice.say("stage", stage=stage.name),
            voice.say("stays")
            if moves_to is None
            else voice.say("moves", day=moves_on, stage=voice.stage(moves_to).name),
        ]
    return dossier_schemas.LifecycleExplanation(
        stage=stage,
        first_order_day=lifecycle.first_order_day,
        last_order_day=lifecycle.last_order_day,
        recency_days=lifecycle.recency_days,
        rhythm_days=lifecycle.rhythm_days,
        rhythm_is_own=lifecycle.rhythm_is_own,
        boundaries=[
            dossier_schemas.BoundaryPart(stage=voice.stage(each.stage), from_day=each.opens_on, days=each.days)
            for each in lifecycle.boundaries
        ],
        came_back_on=lifecycle.came_back_on,
        moves_on=moves_on,
        moves_to=None if moves_to is None else voice.stage(moves_to),
        words=words,
    )


def _value(value: ValueExplained, voice: _Voice) -> dossier_schemas.ValueExplanation:
    levels, sizes = _LEVELS[voice.language], _SIZES[voice.language]
    return dossier_schemas.ValueExplanation(
        level=value.level,
        contribution=value.contribution,
        potential=value.potential,
        size=value.size,
        frequency=value.frequency,
        words=[
            voice.say(
                "worth",
                contribution=levels[value.contribution],
                potential=levels[value.potential],
                level=levels[value.level],
            ),
            voice.say("classes", size=sizes[value.size], frequency=levels[value.frequency]),
        ],
    )


def _row(
    explained: RowExplained, names: Mapping[str, Named], table: str, override: Override | None, voice: _Voice
) -> dossier_schemas.RowExplanation:
    *passed, decided = explained.tried
    reasons = [reason.text(voice.language) for reason in explained.reasons]
    if explained.decided_by is DecidedBy.OVERRIDE and override is not None:
        said = {"author": override.author, "day": override.expires_on, "reason": override.reason}
        words = [voice.say("level_by_hand", **said)]
    else:
        listed = _TABLES[voice.language][table]
        words = [voice.say("decides", row=decided.row, table=listed, reasons=", ".join(reasons))]
    for tried in passed:
        words += _kept(tried, names, voice)
    return dossier_schemas.RowExplanation(
        code=explained.code,
        name=names[explained.code].name(voice.language),
        decided_by=explained.decided_by,
        row=decided.row,
        tried=[
            dossier_schemas.TriedRow(
                row=each.row,
                code=each.code,
                holds=each.holds,
                conditions=[dossier_schemas.ConditionPart(**one._asdict()) for one in each.comparisons],
            )
            for each in explained.tried
        ],
        reasons=reasons,
        words=words,
    )


def _kept(tried: Tried, names: Mapping[str, Named], voice: _Voice) -> list[str]:
    """What kept a row from deciding: what would have to be another for it."""
    return [
        voice.say(
            "kept",
            row=tried.row,
            name=names[tried.code].name(voice.language),
            fact=one.fact,
            condition=one.condition,
            value=_NONE[voice.language] if one.value is None else one.value,
        )
        for one in tried.comparisons
        if not one.holds
    ]


# --- history --------------------------------------------------------------------------------------------------------


def present_history(
    page: History, customer_id: str, language: str, following: str | None
) -> dossier_schemas.HistoryAnswer:
    """A page of what became of a customer; `following` is the path of the next one."""
    return dossier_schemas.HistoryAnswer(
        customer_id=customer_id,
        as_of=page.as_of,
        history=[_entry(each, page, language) for each in page.entries],
        next=following,
    )


def _entry(listed: HistoryEntry, page: History, language: str) -> dossier_schemas.HistoryEntryPart:
    entry, before = listed.entry, listed.before
    after = entry.after
    concerned: Mapping[EntryKind, Override | None] = {
        EntryKind.OVERRIDE_SET: after.override,
        EntryKind.OVERRIDE_EXPIRED: after.override,
        EntryKind.OVERRIDE_ENDED: before.override if before else None,
    }
    return dossier_schemas.HistoryEntryPart(
        as_of=after.as_of,
        recorded_at=listed.recorded_at,
        kind=entry.kind,
        before=None if before is None else _stood(before, page, language),
        after=_stood(after, page, language),
        reasons=after.reasons(language),
        override=present_override(concerned.get(entry.kind)),
        author=entry.author,
        reason=entry.reason,
        versions=schemas.VersionsPart(policy=after.policy_version, model=after.model_version or None),
    )


def _stood(snapshot: Snapshot, page: History, language: str) -> dossier_schemas.StandingPart:
    policy, model = page.policies[snapshot.policy_version], page.models[snapshot.model_version]
    level = policy.service_levels[snapshot.service_level]
    return dossier_schemas.StandingPart(
        value_tier=snapshot.tier,
        computed_tier=snapshot.history.computed,
        lifecycle=schemas.NamedPart(code=snapshot.lifecycle, name=_STAGES[language][snapshot.lifecycle]),
        segment=present_named_segment(snapshot, policy, model, language),
        service_level=schemas.NamedPart(code=level.code, name=level.name(language)),
        churn_warning=snapshot.churn_warning,
    )
