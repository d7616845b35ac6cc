"""Where customers stand."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from segment_api import negotiating, problems, rendering, schemas
from segment_api.context import Context, InContext, InLanguage, InLookups
from segment_api.lookups import Lookups
from segment_api.problems import ProblemAnswer
from segment_api.rendering import Found
from segment_api.replies import render
from segmentation.answers import Answer
from segmentation.fields import CustomerId, read_customer_id

router = APIRouter(tags=["customers"])

_NOT_MODIFIED = {"description": "Nothing has changed since the answer with that `ETag`."}
_SHOWN = 100
AskedFor = Annotated[str, Path(description="The customer's id, as in the events.", examples=["C-1042"])]


@router.get(
    "/customers/{customer_id}/segment",
    summary="Segment, value tier and service level of a customer",
    description="The one call a TMS needs. Send the `ETag` of the last answer as `If-None-Match` to learn cheaply "
    "that nothing has changed. With `as_of`, where the customer stood at the end of an earlier day.",
    response_model=schemas.SegmentAnswer,
    responses={**problems.responses(404, 422, 503), 304: _NOT_MODIFIED},
)
async def read_segment(
    customer_id: AskedFor,
    context: InContext,
    lookups: InLookups,
    language: InLanguage,
    *,
    if_none_match: Annotated[str | None, Header(description="`ETag` of an earlier answer.")] = None,
    as_of: Annotated[
        date | None,
        Query(
            description="A business day: the answer as it was recorded at the end of that day, whatever arrived later. "
            "`updated_at` is then when it was recorded."
        ),
    ] = None,
) -> Response:
    asked = known_form(customer_id)
    if as_of is None:
        # Asked without a query, it is mostly the hot lane that answers, ahead of the router and with the same bytes.
        reply = await lookups.reply(asked, language)
        if reply is None:
            raise unknown(customer_id)
        return reply.response(if_none_match)
    answer = (await context.reader.answers([asked], now=context.now())).known.get(asked)
    if answer is None:
        raise unknown(customer_id)
    if as_of != answer.as_of:
        answer = await _recorded(context, asked, as_of, answer.as_of)
    return render(answer, language).response(if_none_match)


@router.get(
    "/customers/{customer_id}/metrics",
    summary="Rolling figures of a customer",
    description="Computed for the current `as_of`, whenever the last event came: windows shrink by themselves.",
    responses=problems.responses(404, 503),
)
async def read_metrics(customer_id: AskedFor, context: InContext) -> schemas.MetricsAnswer:
    found = await context.reader.figures(known_form(customer_id), now=context.now())
    if found is None:
        raise unknown(customer_id)
    as_of, figures = found
    return schemas.MetricsAnswer(customer_id=customer_id, as_of=as_of, **figures.describe(0, decimals=context.decimals))


async def read_segments(
    question: schemas.SegmentsQuestion,
    context: InContext,
    lookups: InLookups,
    language: InLanguage,
    accept: Annotated[str | None, Header(description="`application/json` or `application/x-ndjson`.")] = None,
) -> Response:
    wanted = list(dict.fromkeys(question.customer_ids))
    asked = [known for each in wanted if (known := read_customer_id(each)) is not None]
    found = await _find(context, lookups, asked, language, everybody=len(asked) == len(wanted))
    chosen = negotiating.choose_media_type(accept, ("application/json", rendering.NDJSON))
    join = rendering.segments_lines if chosen == rendering.NDJSON else rendering.segments_body
    headers = {"Content-Language": language, "Vary": "Accept, Accept-Language"}
    return Response(join(found, wanted, language), media_type=chosen, headers=headers)


router.add_api_route(
    "/customers/segments",
    read_segments,
    methods=["POST"],
    route_class_override=negotiating.NdjsonIdsRoute,
    summary="Segments of many customers at once",
    description="Up to 10,000 ids in one call, each answered once. Customers nobody has heard of are listed with the "
    "policy's default service level; they are never an error.\n\nThe ids may also come as NDJSON (`Content-Type: "
    "application/x-ndjson`): on each line an id as a JSON string, or an object with a `customer_id`. With `Accept: "
    "application/x-ndjson` there is a line for each customer, in the order asked for; of an unknown one it has "
    "`customer_id`, `as_of` and `recommended_service_level`.",
    response_model=schemas.SegmentsAnswer,
    responses={
        200: {"content": {rendering.NDJSON: {}}},
        **problems.responses(413, 422, 503),
    },
    openapi_extra={"requestBody": {"content": {rendering.NDJSON: {}}}},
)


async def _find(
    context: Context, lookups: Lookups, asked: Sequence[CustomerId], language: str, *, everybody: bool
) -> Found:
    """Where several customers stand: as kept, as far as that is right; `everybody`: nobody else was asked for."""
    kept = await lookups.many(asked, language)
    if kept is None:
        return Found.of(await context.reader.answers(asked, now=context.now()), language)
    bodies = {each: reply.body for each, reply in kept.items()}
    if kept and everybody and len(kept) == len(asked):
        return Found(next(iter(kept.values())).as_of, bodies, None)
    nobody = await context.reader.answers([], now=context.now())
    if any(reply.as_of != nobody.as_of for reply in kept.values()):  # the day has just changed
        return Found.of(await context.reader.answers(asked, now=context.now()), language)
    return Found(nobody.as_of, bodies, nobody.policy)


async def _recorded(context: Context, customer_id: CustomerId, day: date, today: date) -> Answer:
    if day > today:
        raise ProblemAnswer(422, f"query.as_of: {day} lies after the current business day, {today}.")
    recorded = await context.reader.recorded(customer_id, day)
    if recorded is None:
        raise ProblemAnswer(404, f"No answer about {customer_id!r} was recorded on {day} or before.")
    return recorded


def known_form(text: str) -> CustomerId:
    """The id in the path, where it has the form of one."""
    customer_id = read_customer_id(text)
    if customer_id is None:
        raise unknown(text)
    return customer_id


def unknown(customer_id: str) -> ProblemAnswer:
    """Nobody has heard of the customer."""
    return ProblemAnswer(404, f"No customer {customer_id[:_SHOWN]!r} is known.")
