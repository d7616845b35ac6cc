"""Where a customer stands, and what is to be done for it -> what the API answers."""

from collections.abc import Iterable, Sequence

from segment_api import schemas
from segmentation import services
from segmentation.answers import Answer, Answers
from segmentation.assessment import Snapshot
from segmentation.fields import CustomerId
from segmentation.overrides import Override, effective_tier
from segmentation.policy import Policy, Reason
from segmentation.scoring import Model

_UNKNOWN_REASON = {"en": "unknown customer", "zh": "未知客户"}


def present_segment(answer: Answer, language: str) -> schemas.SegmentAnswer:
    """Where a customer stands."""
    snapshot, policy = answer.snapshot, answer.policy
    # By the day that it was assessed for: until it comes due, every later day gives the same.
    _, demotion_due = effective_tier(
        snapshot.history, snapshot.override, snapshot.as_of, policy.tiers.demotion_grace_days
    )
    return schemas.SegmentAnswer(
        customer_id=snapshot.customer_id,
        as_of=answer.as_of,
        segment=schemas.SegmentPart(
            **present_named_segment(snapshot, policy, answer.model, language).model_dump(),
            since=snapshot.segment_since,
            source=source_of_segment(snapshot),
            confidence=snapshot.outlook and snapshot.outlook.confidence,
        ),
        lifecycle=snapshot.lifecycle,
        value_tier=snapshot.tier,
        tier=schemas.TierPart(
            effective=snapshot.tier,
            computed=snapshot.history.computed,
            since=snapshot.tier_since,
            demotion_due=demotion_due,
            override=present_override(snapshot.overridden),
        ),
        value_level=snapshot.facets.value_level,
        risk=schemas.RiskPart(
            churn_probability=snapshot.outlook and snapshot.outlook.churn_probability, warning=snapshot.churn_warning
        ),
        recommended_service_level=present_level(
            policy,
            snapshot.service_level,
            [reason.text(language) for reason in snapshot.service_reasons],
            language,
            additions=snapshot.additions,
            known=snapshot.facets.known,
        ),
        stale=answer.stale,
        versions=schemas.VersionsPart(policy=snapshot.policy_version, model=snapshot.model_version or None),
        updated_at=snapshot.updated_at,
    )


def present_named_segment(snapshot: Snapshot, policy: Policy, model: Model | None, language: str) -> schemas.NamedPart:
    """The segment that is shown: the model's where it knows the customer, else the policy's."""
    name = name_of_segment(snapshot, policy, model, language)
    return schemas.NamedPart(code=snapshot.shown_segment, name=name)


def name_of_segment(snapshot: Snapshot, policy: Policy, model: Model | None, language: str) -> str:
    """The name of the segment that is shown."""
    code = snapshot.shown_segment
    if snapshot.outlook is None:
        return policy.segments[code].name(language)
    # A model that an upgrade has left unreadable has no names any more.
    names = {} if model is None else {segment.code: segment.name(language) for segment in model.segments}
    return names.get(code, code)


def source_of_segment(snapshot: Snapshot) -> str:
    """What decided the segment that is shown: `rules`, or a model by its version."""
    return "rules" if snapshot.outlook is None else f"model:{snapshot.model_version}"


def present_override(override: Override | None) -> schemas.OverridePart | None:
    """What a person decided over the rules."""
    if override is None:
        return None
    return schemas.OverridePart(
        tier=override.tier,
        service_level=override.service_level,
        reason=override.reason,
        author=override.author,
        expires_on=override.expires_on,
        set_at=override.set_at,
    )


def present_segments(answers: Answers, asked: Iterable[CustomerId | str], language: str) -> schemas.SegmentsAnswer:
    """Where many customers stand; whoever is unknown gets the policy's default level."""
    policy = answers.policy
    wanted = dict.fromkeys(asked)
    known = [answers.known[CustomerId(each)] for each in wanted if each in answers.known]
    default = present_unknown(policy, language)
    return schemas.SegmentsAnswer(
        as_of=answers.as_of,
        customers=[present_segment(answer, language) for answer in known],
        unknown=[
            schemas.UnknownCustomer(customer_id=each, recommended_service_level=default)
            for each in wanted
            if each not in answers.known
        ],
    )


def present_unknown(policy: Policy, language: str) -> schemas.ServiceLevelPart:
    """What is to be done for customers nobody has heard of."""
    return present_level(policy, policy.default_level, [_UNKNOWN_REASON[language]], language)


def present_level(
    policy: Policy,
    code: str,
    reasons: Sequence[str],
    language: str,
    *,
    additions: Sequence[tuple[str, Sequence[Reason]]] = (),
    known: int = 0,
) -> schemas.ServiceLevelPart:
    """What is to be done for a customer."""
    level = policy.service_levels[code]
    names = {addition.code: addition.name(language) for addition in policy.additions}
    care = policy.care(code, [each for each, _ in additions])
    related = services.relationship(known, care, policy.relationship)
    return schemas.ServiceLevelPart(
        code=code,
        name=level.name(language),
        dispatch_priority=level.dispatch_priority,
        actions=list(care.actions),
        reasons=list(reasons),
        description=level.description(language),
        response_hours=care.response_hours,
        complaint_hours=care.complaint_hours,
        delivery_commitment=care.delivery_commitment and care.delivery_commitment[language],
        channel=care.channel,
        dedicated_manager=care.dedicated_manager,
        callback_days=care.callback_days,
        review_days=care.review_days,
        survey_days=care.survey_days,
        offers=[schemas.NamedPart(code=each, name=policy.offers[each].name(language)) for each in care.offers],
        playbooks=[
            schemas.PlaybookPart(
                code=each,
                name=policy.playbooks[each].name(language),
                description=policy.playbooks[each].description(language),
            )
            for each in care.playbooks
        ],
        retention_level=care.retention_level,
        owner=care.owner,
        additions=[
            schemas.AdditionPart(code=each, name=names[each], reasons=[reason.text(language) for reason in why])
            for each, why in additions
        ],
        relationship=schemas.RelationshipPart(
            strategy=related.strategy,
            name=related.name(language),
            knowledge=float(related.knowledge),
            individualisation=float(related.individualisation),
        ),
    )
