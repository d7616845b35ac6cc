"""What the ledger knows -> what the API answers: pure, one function an answer."""

import base64
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from segment_api import ingest_schemas, listing_schemas, policy_schemas, schemas
from segmentation import services
from segmentation.answers import Answer, Answers, DayTotal, EventFate, IngestStatus, PartitionStatus, TierOverview
from segmentation.assessment import Snapshot
from segmentation.dry_run import DryRun
from segmentation.feeds import FullSnapshot
from segmentation.fields import CustomerId
from segmentation.ledger import DeadLetter, Replay
from segmentation.listing import UNKNOWN, Breakdown, RegionOverview, SegmentCount, SegmentOverview, names_of_segments
from segmentation.money import MINOR_UNITS, format_minor
from segmentation.outcomes import Outcome
from segmentation.overrides import Override, effective_tier
from segmentation.policy import Policy, Reason
from segmentation.scoring import Model
from segmentation.tiering import Basis
from segmentation.versions import Activation, PolicyState, PolicyVersion

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


def present_segments_summary(overview: SegmentOverview, language: str) -> listing_schemas.SegmentsSummary:
    """Everyone by segment."""
    names = names_of_segments(overview.policy, overview.model)
    return listing_schemas.SegmentsSummary(
        as_of=overview.as_of,
        customers=overview.customers,
        overdue=overview.overdue,
        segments=[
            listing_schemas.SegmentSummary(
                code=each.code,
                name=names[each.code].name(language) if each.code in names else each.code,
                customers=each.customers,
                share=_share(each.customers, overview.customers),
                **_present_breakdowns(each),
            )
            for each in overview.segments
        ],
    )


def _present_breakdowns(each: SegmentCount) -> dict[str, Any]:
    regions, industries = each.broken_down.get(Breakdown.REGION), each.broken_down.get(Breakdown.INDUSTRY)
    return {
        "regions": regions
        and [
            listing_schemas.RegionPart(
                region=part.value, customers=part.customers, share=_share(part.customers, each.customers)
            )
            for part in regions.parts
        ],
        "other_regions": regions
        and listing_schemas.OtherRegions(regions=regions.others, customers=regions.customers_of_others),
        "industries": industries
        and [
            listing_schemas.IndustryPart(
                industry=part.value or UNKNOWN, customers=part.customers, share=_share(part.customers, each.customers)
            )
            for part in industries.parts
        ],
    }


def present_regions(overview: RegionOverview, decimals: int, following: str | None) -> listing_schemas.RegionsAnswer:
    """Everyone by region, a page of it."""
    shown_decimals = 0 if overview.basis == Basis.ORDERS else decimals
    return listing_schemas.RegionsAnswer(
        as_of=overview.as_of,
        basis=overview.basis,
        customers=overview.customers,
        overdue=overview.overdue,
        total=format_minor(overview.total, shown_decimals),
        regions=[
            listing_schemas.RegionSummary(
                region=each.region,
                customers=each.customers,
                tiers=[listing_schemas.RegionTier(tier=tier, customers=count) for tier, count in each.tiers.items()],
                net_revenue=format_minor(each.value, shown_decimals),
                share=_share(each.value, overview.total),
            )
            for each in overview.regions
        ],
        next=following,
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def present_tiers(overview: TierOverview, decimals: int) -> schemas.TiersAnswer:
    """The ranking of everyone."""
    shown_decimals = 0 if overview.basis == Basis.ORDERS else decimals
    return schemas.TiersAnswer(
        as_of=overview.as_of,
        basis=overview.basis,
        total=format_minor(overview.total, shown_decimals),
        cutoffs={
            tier: schemas.CutOff(net_revenue=format_minor(last[0], shown_decimals), customer_id=last[1])
            if last
            else None
            for tier, last in overview.cutoffs.items()
        },
        tiers=[
            schemas.TierCount(
                tier=part.tier,
                customers=part.customers,
                net_revenue=format_minor(part.value, shown_decimals),
                share=part.value / overview.total if overview.total and part.tier != "unrated" else None,
            )
            for part in overview.tiers
        ],
        pareto=[
            schemas.ParetoPoint(customers_share=customers, revenue_share=share) for customers, share in overview.pareto
        ],
    )


def present_status(status: IngestStatus, clock: str) -> ingest_schemas.IngestAnswer:
    """How ingestion stands."""
    return ingest_schemas.IngestAnswer(
        clock=clock,
        as_of=status.as_of,
        lag=sum(each.lag for each in status.partitions),
        partitions=[
            ingest_schemas.PartitionAnswer(
                topic=each.partition.topic,
                partition=each.partition.number,
                next_offset=each.next_offset or 0,
                end_offset=max(each.end_offset or 0, each.next_offset or 0),
                lag=each.lag,
                worker=each.worker,
                halted=_present_halt(each),
            )
            for each in status.partitions
        ],
        workers=[
            ingest_schemas.WorkerAnswer(
                worker=each.worker,
                started_at=each.started_at,
                seen_at=each.seen_at,
                waiting_for=[ingest_schemas.WaitAnswer.model_validate(wait) for wait in each.waiting_for],
            )
            for each in status.workers
        ],
        events=ingest_schemas.EventCounts(**{outcome.value: count for outcome, count in status.events.items()}),
        customers=status.customers,
        tiers=ingest_schemas.TiersFreshness(as_of=status.tiers_as_of, current=status.tiers_current),
        last_applied_at=status.last_applied_at,
        events_known_since=status.events_known_since,
    )


def present_full_snapshot(snapshot: FullSnapshot) -> ingest_schemas.FullSnapshotAnswer:
    """How far a full snapshot is."""
    return ingest_schemas.FullSnapshotAnswer(
        snapshot_id=snapshot.name if snapshot.attempt else None,
        requested_at=snapshot.requested_at,
        begun_at=snapshot.begun_at,
        done_at=snapshot.done_at,
        customers=snapshot.customers,
    )


def _present_halt(status: PartitionStatus) -> ingest_schemas.HaltAnswer | None:
    halt, (topic, number) = status.halt, status.partition
    if halt is None:
        return None
    return ingest_schemas.HaltAnswer(
        at=halt.at,
        offset=halt.offset,
        detail=f"{halt.sentence[:1].upper()}{halt.sentence[1:]}.",
        reasons=dict(halt.reasons),
        remedy="Mend what sends or reads these messages, then run "
        f"`ingest-worker resume {topic}/{number}`, then replay what was rejected.",
    )


def present_dead_letter(letter: DeadLetter) -> ingest_schemas.DeadLetterAnswer:
    """A rejected message, without its bytes."""
    return ingest_schemas.DeadLetterAnswer(**_letter_fields(letter))


def present_dead_letter_detail(letter: DeadLetter) -> ingest_schemas.DeadLetterDetail:
    """A rejected message with its bytes."""
    value = letter.value
    try:
        text = None if value is None else value.decode()
    except UnicodeDecodeError:
        text = None
    return ingest_schemas.DeadLetterDetail(
        **_letter_fields(letter),
        value_base64=None if value is None else base64.b64encode(value).decode(),
        value_text=text,
        headers=[{"name": name, "value_base64": encoded} for name, encoded in letter.headers],
    )


def present_event(fate: EventFate) -> ingest_schemas.EventAnswer:
    """What became of an event id."""
    applied = fate.applied
    return ingest_schemas.EventAnswer(
        event_id=fate.event_id,
        outcome=Outcome.APPLIED if applied else Outcome.REJECTED,
        applied=None
        if applied is None
        else ingest_schemas.AppliedPart(
            type=applied.type,
            customer_id=applied.customer_id,
            business_day=applied.business_day,
            topic=applied.partition.topic,
            partition=applied.partition.number,
            offset=applied.offset,
            recorded_at=applied.recorded_at,
            counts=applied.counting_event_id == fate.event_id,
            counting_event_id=applied.counting_event_id,
        ),
        rejections=[present_dead_letter(letter) for letter in fate.rejections],
        older_rejections=fate.older_rejections,
    )


def present_totals(first: date, last: date, totals: Iterable[DayTotal]) -> ingest_schemas.TotalsAnswer:
    """What was applied, in the currencies given."""
    return ingest_schemas.TotalsAnswer(
        **{"from": first, "to": last},
        totals=[
            ingest_schemas.TotalPart(
                business_day=total.business_day,
                type=total.type,
                currency=total.currency,
                events=total.events,
                amount=None if total.amount is None else _money(total.amount, total.currency or ""),
            )
            for total in totals
        ],
    )


def _money(amount: Decimal, currency: str) -> str:
    decimals = MINOR_UNITS[currency]
    numerator, denominator = amount.as_integer_ratio()
    return format_minor(numerator * 10**decimals // denominator, decimals)


def present_replay(replay: Replay) -> ingest_schemas.ReplayAnswer:
    """What a replay made of a rejected message."""
    return ingest_schemas.ReplayAnswer(
        id=replay.letter_id,
        outcome=replay.outcome,
        reason=replay.reject.reason if replay.reject else None,
        detail=replay.reject.sentence if replay.reject else None,
    )


def _letter_fields(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "reason": letter.reason,
        "field": letter.field_name or None,
        "detail": letter.sentence,
        "topic": letter.partition.topic,
        "partition": letter.partition.number,
        "offset": letter.offset,
        "customer_id": letter.customer_id,
        "event_id": letter.event_id,
        "recorded_at": letter.recorded_at,
        "replayed_as": letter.replayed_as,
        "replayed_at": letter.replayed_at,
    }


def present_policy(version: PolicyVersion) -> policy_schemas.PolicyAnswer:
    """A version of the policy, without its text."""
    return policy_schemas.PolicyAnswer(**_version_fields(version))


def present_policy_detail(version: PolicyVersion) -> policy_schemas.PolicyDetail:
    """A version of the policy with its text."""
    return policy_schemas.PolicyDetail(**_version_fields(version), source=version.source)


def _version_fields(version: PolicyVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "state": version.state,
        "origin": version.origin,
        "author": version.author,
        "note": version.note,
        "created_at": version.created_at,
        "activated_at": version.activated_at,
        "scheduled_on": version.scheduled_on,
    }


def present_activation(activation: Activation) -> policy_schemas.ActivationAnswer:
    """That a version was put in force, or is to be."""
    return policy_schemas.ActivationAnswer(
        version=activation.version,
        on=activation.on,
        author=activation.author,
        reason=activation.reason,
        requested_at=activation.requested_at,
        activated_at=activation.activated_at,
        cancelled_at=activation.cancelled_at,
        replaced_version=activation.replaced_version,
    )


def present_policies(
    versions: Sequence[PolicyVersion], activations: Sequence[Activation], *, older: bool = False
) -> policy_schemas.PoliciesAnswer:
    """All versions of the policy."""
    active = [each.version for each in versions if each.state is PolicyState.ACTIVE]
    return policy_schemas.PoliciesAnswer(
        active=active[0] if active else None,
        policies=[present_policy(each) for each in versions],
        activations=[present_activation(each) for each in activations],
        older_activations=older,
    )


def present_dry_run(run: DryRun, decimals: int) -> policy_schemas.DryRunAnswer:
    """What a policy would do."""
    before, after = run.a_orders_a_day
    return policy_schemas.DryRunAnswer(
        as_of=run.as_of,
        policy_version=run.policy_version,
        policy_name=run.policy_name,
        customers=run.customers,
        looked_at=run.looked_at,
        complete=run.complete,
        seconds=round(run.seconds, 3),
        moved_customers=run.moved_customers,
        moved_net_revenue=format_minor(run.moved_net_revenue, decimals),
        moves={
            aspect: [
                policy_schemas.MoveAnswer(
                    before=move.before,
                    after=move.after,
                    customers=move.customers,
                    net_revenue=format_minor(move.net_revenue, decimals),
                    examples=list(move.examples),
                )
                for move in moves
            ]
            for aspect, moves in run.moves.items()
        },
        dispatch=policy_schemas.DispatchForecast(a_orders_a_day_before=before, a_orders_a_day_after=after),
    )
