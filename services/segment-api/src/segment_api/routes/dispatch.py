"""Which order goes first."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from segment_api import dispatch_schemas, problems
from segment_api.context import InContext, InLanguage
from segment_api.dispatch_schemas import OrderQuestion
from segmentation.answers import Answers
from segmentation.calendar import format_instant, instant_of
from segmentation.dispatch import Scale, WaitingOrder, on_scale, prioritise
from segmentation.fields import CustomerId, read_customer_id
from segmentation.tiering import Tier

router = APIRouter(tags=["dispatch"])


@router.post(
    "/dispatch/priorities",
    summary="Which of many waiting orders goes first",
    description="Up to 10,000 orders in one call, ranked by points for tier, service level, promised time, waiting and "
    "risk, as the policy's [dispatch] has it; each place with its reasons. A goes first, and yet every tier has a "
    "minimum share of the places, and waiting orders age past newer ones. Customers nobody has heard of are ranked at "
    "the policy's default level; they are never an error.",
    response_model=dispatch_schemas.DispatchAnswer,
    responses=problems.responses(413, 422, 503),
)
async def rank_orders(
    question: dispatch_schemas.DispatchQuestion,
    context: InContext,
    language: InLanguage,
    scale: Annotated[
        Scale,
        Query(
            description="What `priority` is told as: tierline, 0 to 100, the highest first; sap, a delivery priority "
            "from 1 to 99, where 1 goes first; vroom, 100, 10 or 1, so that one task outweighs nine of the next band."
        ),
    ] = Scale.TIERLINE,
) -> Response:
    now = context.now()
    asked = dict.fromkeys(read_customer_id(order.customer_id) for order in question.orders)
    answers = await context.reader.answers(filter(None, asked), now=now)
    at = instant_of(now) if question.at is None else question.at
    # Ten thousand orders take a noticeable part of a second, and others are waiting for this loop.
    body = await asyncio.to_thread(_rendered, question.orders, answers, at, scale, language)
    return Response(body, media_type="application/json", headers={"Content-Language": language})


def _rendered(orders: list[OrderQuestion], answers: Answers, at: int, scale: Scale, language: str) -> bytes:
    """The answer, as bytes: the same as its schema would give, which a test holds, in a fraction of the time."""
    rules = answers.policy.dispatch
    levels = {code: level.name(language) for code, level in answers.policy.service_levels.items()}
    waiting = [_with_customer(order, answers) for order in orders]
    ranking = prioritise(waiting, rules, at=at)
    encode = msgspec.json.Encoder().encode
    # Each order is bytes as soon as it is made: a hundred thousand small objects at once keep the collector busy.
    places: list[msgspec.Raw] = []
    for position, priority, reasons in zip(ranking.positions, ranking.priorities, ranking.reasons, strict=True):
        order = waiting[position]
        place = {
            "order_id": order.order_id,
            "customer_id": order.customer_id,
            "known": order.lifecycle is not None,
            "rank": len(places) + 1,
            "priority": on_scale(priority, scale, rules),
            "value_tier": order.tier,
            "service_level": order.service_level,
            "reasons": [reason.text(language, levels) for reason in reasons],
            "parts": [
                {"code": reason.code, "value": reason.value, "points": reason.thousandths / 1_000} for reason in reasons
            ],
        }
        places.append(msgspec.Raw(encode(place)))
    return encode(
        {
            "as_of": answers.as_of,
            "at": format_instant(at),
            "scale": scale,
            "stale": any(answer.stale for answer in answers.known.values()),
            "versions": {"policy": answers.policy.version},
            "orders": places,
        }
    )


def _with_customer(order: OrderQuestion, answers: Answers) -> WaitingOrder:
    """An order with what is known of its customer; at the policy's default level where nobody has heard of it."""
    answer = answers.known.get(CustomerId(order.customer_id))
    stands = None if answer is None else answer.snapshot
    policy = answers.policy if answer is None else answer.policy
    level = policy.default_level if stands is None else stands.service_level
    return WaitingOrder(
        order.order_id,
        order.customer_id,
        Tier.UNRATED if stands is None else stands.tier,
        level,
        policy.service_levels[level].dispatch_priority,
        None if stands is None else stands.lifecycle,
        order.promised_at,
        order.waiting_since,
        warned=stands is not None and stands.churn_warning,
    )
