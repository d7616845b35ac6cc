"""Why a customer stands where it stands, where it stood, and what people decide over the rules."""

import base64
import re
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import ValidationError

from segment_api import dossier_schemas, explaining, presenting, problems, schemas
from segment_api.context import Context, InContext, InLanguage
from segment_api.guarding import InActor, author_or
from segment_api.problems import InvalidField, ProblemAnswer
from segment_api.routes.customers import AskedFor, known_form, unknown
from segmentation.access import Actor
from segmentation.explanation import explain
from segmentation.fields import CustomerId, read_customer_id
from segmentation.overrides import (
    LONGEST_AUTHOR,
    LONGEST_REASON,
    MOST_AT_ONCE,
    Ending,
    OverrideRefusal,
    WantedOverride,
)

router = APIRouter()

_CURSOR = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
_CURSOR_BYTES = 8
_LONGEST_HISTORY = 1_000
_SHOWN = 100


@router.get(
    "/customers/{customer_id}/explanation",
    summary="Why a customer stands where it stands",
    description="Every decision with what was compared, the threshold, and the row of the policy, from the code that "
    "decides; how much more or less would move the tier, and when silence would move the lifecycle. Gaps hold while "
    "the cut-offs stay where they are: everybody else's orders move them too.",
    responses=problems.responses(404, 503),
    tags=["customers"],
)
async def read_explanation(
    customer_id: AskedFor, context: InContext, language: InLanguage
) -> dossier_schemas.ExplanationAnswer:
    evidence = await context.reader.evidence(known_form(customer_id), now=context.now())
    if evidence is None:
        raise unknown(customer_id)
    answer = evidence.answer
    return explaining.present_explanation(
        explain(
            evidence.metrics,
            answer.snapshot,
            answer.policy,
            evidence.cutoffs,
            evidence.description,
            outlooks=evidence.outlooks,
        ),
        answer.policy,
        language,
        currency=context.house.base_currency,
        decimals=context.decimals,
        stale=answer.stale,
    )


@router.get(
    "/customers/{customer_id}/history",
    summary="What became of a customer, newest first",
    description="Every change of tier, lifecycle, segment or service level, and every override set, ended or expired: "
    "dated, with what stood before and after, the reasons, and the version of the policy.",
    responses=problems.responses(404, 422, 503),
    tags=["customers"],
)
async def read_history(
    customer_id: AskedFor,
    context: InContext,
    language: InLanguage,
    limit: Annotated[int, Query(ge=1, le=_LONGEST_HISTORY, description="How many on a page.")] = 100,
    cursor: Annotated[str | None, Query(description="Where a page begins; see `next`.")] = None,
) -> dossier_schemas.HistoryAnswer:
    asked = known_form(customer_id)
    before = None if cursor is None else _sequence(cursor)
    page = await context.reader.history(asked, before=before, limit=limit, now=context.now())
    if page is None:
        raise unknown(customer_id)
    following = None
    if page.next_before is not None:
        following = f"/customers/{asked}/history?limit={limit}&cursor={_cursor(page.next_before)}"
    return explaining.present_history(page, asked, language, following)


@router.put(
    "/customers/{customer_id}/override",
    summary="Set tier or service level of a customer by hand",
    description="In place of the override there is, if there is one. It counts at once and until the business day of "
    "its expiry begins; the customer stays ranked by its value. The answer is the customer's new one.",
    responses=problems.responses(404, 413, 422, 503),
    tags=["overrides"],
)
async def set_override(
    customer_id: AskedFor,
    order: dossier_schemas.OverrideOrder,
    context: InContext,
    language: InLanguage,
    actor: InActor,
) -> schemas.SegmentAnswer:
    asked = known_form(customer_id)
    wanted = _wanted(order, actor)
    if isinstance(wanted, InvalidField):
        wrong = InvalidField(field=f"body.{wanted.field}", problem=wanted.problem)
        raise ProblemAnswer(422, f"{wrong.field}: {wrong.problem}", errors=[wrong])
    refusal = (await context.overrides.set_overrides({asked: wanted}, now=context.now(), by=actor))[asked]
    if refusal is not None:
        if refusal.field is None:
            raise unknown(customer_id)
        wrong = InvalidField(field=f"body.{refusal.field}", problem=refusal.sentence)
        raise ProblemAnswer(422, f"{wrong.field}: {wrong.problem}", errors=[wrong])
    return await _stands(context, asked, language)


@router.delete(
    "/customers/{customer_id}/override",
    summary="End the override of a customer",
    description="The rules decide again, at once. Where no override counts, nothing happens. The answer is the "
    "customer's new one.",
    responses=problems.responses(404, 422, 503),
    tags=["overrides"],
)
async def end_override(
    customer_id: AskedFor,
    context: InContext,
    language: InLanguage,
    actor: InActor,
    *,
    author: Annotated[
        dossier_schemas.Words | None,
        Query(description="Who ends it; kept in the history.", min_length=1, max_length=LONGEST_AUTHOR),
    ] = None,
    reason: Annotated[
        dossier_schemas.Words | None,
        Query(description="Why; kept in the history.", min_length=1, max_length=LONGEST_REASON),
    ] = None,
) -> schemas.SegmentAnswer:
    asked = known_form(customer_id)
    ending = Ending(author=author_or(actor, author), reason=reason)
    if not await context.overrides.end_override(asked, ending, now=context.now(), by=actor):
        raise unknown(customer_id)
    return await _stands(context, asked, language)


@router.put(
    "/customers/overrides",
    summary="Set tier or service level of many customers by hand",
    description=f"Up to {MOST_AT_ONCE:,} in one call. Each row has an outcome of its own: what is wrong or unknown is "
    "said, and all others are set, in one transaction.",
    responses=problems.responses(413, 422, 503),
    tags=["overrides"],
)
async def set_overrides(
    question: dossier_schemas.OverridesQuestion, context: InContext, actor: InActor
) -> dossier_schemas.OverridesAnswer:
    outcomes: dict[int, dossier_schemas.OverrideOutcome] = {}
    wanted: dict[CustomerId, WantedOverride] = {}
    rows: dict[CustomerId, int] = {}
    for number, row in enumerate(question.overrides):
        read = _read_row(row)
        if isinstance(read, InvalidField):
            outcomes[number] = _outcome(number, _named(row), "invalid", read.field, read.problem)
            continue
        order = _wanted(read, actor)
        if isinstance(order, InvalidField):
            outcomes[number] = _outcome(number, _named(row), "invalid", order.field, order.problem)
            continue
        customer_id = read_customer_id(read.customer_id)
        if customer_id is None:
            outcomes[number] = _outcome(number, _named(row), "unknown_customer", None, "no customer can have this id")
        elif customer_id in rows:
            first = f"the customer is that of row {rows[customer_id]} already; send one row for each"
            outcomes[number] = _outcome(number, _named(row), "invalid", "customer_id", first)
        else:
            wanted[customer_id], rows[customer_id] = order, number
    refusals = await context.overrides.set_overrides(wanted, now=context.now(), by=actor)
    for customer_id, refusal in refusals.items():
        outcomes[rows[customer_id]] = _judged(rows[customer_id], customer_id, refusal)
    return dossier_schemas.OverridesAnswer(
        set=sum(each.outcome == "set" for each in outcomes.values()),
        outcomes=[outcomes[number] for number in range(len(question.overrides))],
    )


def _read_row(row: Any) -> dossier_schemas.OverrideRow | InvalidField:  # noqa: ANN401 - any JSON value
    try:
        return dossier_schemas.OverrideRow.model_validate(row)
    except ValidationError as error:
        return problems.first_problem(error.errors())


def _named(row: Any) -> str | None:  # noqa: ANN401 - any JSON value
    named = row.get("customer_id") if isinstance(row, dict) else None
    # What is no text cannot be told back as one; a lone surrogate cannot be encoded.
    return named[:_SHOWN].encode("utf-8", "replace").decode() if isinstance(named, str) else None


def _judged(number: int, customer_id: CustomerId, refusal: OverrideRefusal | None) -> dossier_schemas.OverrideOutcome:
    if refusal is None:
        return _outcome(number, customer_id, "set", None, None)
    outcome = "unknown_customer" if refusal.field is None else "invalid"
    return _outcome(number, customer_id, outcome, refusal.field, refusal.sentence)


def _outcome(
    number: int, customer_id: str | None, outcome: str, field: str | None, detail: str | None
) -> dossier_schemas.OverrideOutcome:
    return dossier_schemas.OverrideOutcome(
        row=number, customer_id=customer_id, outcome=outcome, field=field or None, detail=detail
    )


def _wanted(order: dossier_schemas.OverrideOrder, actor: Actor) -> WantedOverride | InvalidField:
    author = author_or(actor, order.author)
    if author is None:
        return InvalidField(field="author", problem="Field required: nobody is known to have asked for it")
    return WantedOverride(order.tier, order.service_level, order.reason, author[:LONGEST_AUTHOR], order.expires_on)


async def _stands(context: Context, customer_id: CustomerId, language: str) -> schemas.SegmentAnswer:
    answer = (await context.reader.answers([customer_id], now=context.now())).known.get(customer_id)
    if answer is None:  # erased in between
        raise unknown(customer_id)
    return presenting.present_segment(answer, language)


def _cursor(sequence: int) -> str:
    return base64.urlsafe_b64encode(sequence.to_bytes(_CURSOR_BYTES, "big")).decode().rstrip("=")


def _sequence(cursor: str) -> int:
    if _CURSOR.fullmatch(cursor):
        sequence = int.from_bytes(base64.urlsafe_b64decode(cursor + "="), "big")
        if 0 < sequence < 1 << 63 and _cursor(sequence) == cursor:
            return sequence
    raise ProblemAnswer(422, f"query.cursor: {cursor[:_SHOWN]!r} is none of ours; take it from `next` of a page.")
