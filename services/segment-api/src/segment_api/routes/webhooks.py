"""Webhooks: who has changes posted to them. The worker posts; nothing here calls anybody."""

import re
import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query

from segment_api import problems
from segment_api.change_hub import PositionAhead, PositionDropped
from segment_api.context import Context, InContext
from segment_api.guarding import InActor
from segment_api.problems import InvalidField, ProblemAnswer
from segment_api.webhook_schemas import (
    DeliveriesAnswer,
    DeliveryAnswer,
    NewWebhookAnswer,
    RemovedAnswer,
    ReplayQuestion,
    TestAskedAnswer,
    WebhookAnswer,
    WebhookQuestion,
    WebhooksAnswer,
)
from segmentation.streams import ChangeFilter
from segmentation.webhooks import (
    MOST_WEBHOOKS,
    SECRET_BYTES,
    WantedWebhook,
    Webhook,
    new_secret,
    url_problem,
)

router = APIRouter(prefix="/webhooks", tags=["streams"])

_ID: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_GREATEST: Final = 2**63 - 1
WebhookId = Annotated[str, Path(description="As listed.", examples=["3"])]


@router.post(
    "",
    status_code=201,
    summary="Have changes posted to an address",
    description="Signed by Standard Webhooks with the secret in this answer, which is told once; up to 100 changes in "
    "a message, at least once, in order. See docs/streams.md for how to check a signature.",
    responses=problems.responses(409, 410, 413, 422, 503),
)
async def add_webhook(question: WebhookQuestion, context: InContext, actor: InActor) -> NewWebhookAnswer:
    problem = url_problem(question.url, context.webhook_rules)
    if problem is not None:
        raise ProblemAnswer(422, f"body.url: {problem}", errors=[InvalidField(field="body.url", problem=problem)])
    after = await _position(context, question.after)
    codes = (question.tiers, question.segments, question.service_levels, question.customer_ids)
    secret = new_secret(secrets.token_bytes(SECRET_BYTES))
    wanted = WantedWebhook(question.url, question.description, ChangeFilter(*(frozenset(each) for each in codes)))
    added = await context.webhooks.add(wanted, secret, after=after, by=actor)
    if added is None:
        raise ProblemAnswer(409, f"There are {MOST_WEBHOOKS} webhooks; remove one that is not needed.")
    return NewWebhookAnswer(**_present(added).model_dump(), secret=secret)


@router.get("", summary="All webhooks, and how far each is", responses=problems.responses(503))
async def list_webhooks(context: InContext) -> WebhooksAnswer:
    return WebhooksAnswer(webhooks=[_present(each) for each in await context.webhooks.listed()])


@router.get("/{webhook_id}", summary="One webhook", responses=problems.responses(404, 503))
async def read_webhook(webhook_id: WebhookId, context: InContext) -> WebhookAnswer:
    return _present(_found(await context.webhooks.find(_number(webhook_id)), webhook_id))


@router.delete(
    "/{webhook_id}", summary="Remove a webhook, its secret and its log", responses=problems.responses(404, 503)
)
async def remove_webhook(webhook_id: WebhookId, context: InContext, actor: InActor) -> RemovedAnswer:
    if not await context.webhooks.remove(_number(webhook_id), by=actor):
        raise _unknown(webhook_id)
    return RemovedAnswer(id=webhook_id, removed=True)


@router.post(
    "/{webhook_id}/test",
    summary="Send a message without changes",
    description="Within seconds, also to one that was given up; its log says what came of it.",
    responses=problems.responses(404, 503),
)
async def ask_test(webhook_id: WebhookId, context: InContext, actor: InActor) -> TestAskedAnswer:
    if not await context.webhooks.ask_test(_number(webhook_id), by=actor):
        raise _unknown(webhook_id)
    return TestAskedAnswer(id=webhook_id, log=f"/webhooks/{webhook_id}/deliveries")


@router.post(
    "/{webhook_id}/enable",
    summary="Try again, now",
    description="From where it stopped: nothing is left out. For one that was given up, or waits for its next try.",
    responses=problems.responses(404, 503),
)
async def enable_webhook(webhook_id: WebhookId, context: InContext, actor: InActor) -> WebhookAnswer:
    return _present(_found(await context.webhooks.go_on(_number(webhook_id), after=None, by=actor), webhook_id))


@router.post(
    "/{webhook_id}/replay",
    summary="Send again what was sent before",
    description="From a sequence on, in order; it enables the webhook, too.",
    responses=problems.responses(404, 410, 413, 422, 503),
)
async def replay_webhook(
    webhook_id: WebhookId, question: ReplayQuestion, context: InContext, actor: InActor
) -> WebhookAnswer:
    number = _number(webhook_id)
    _found(await context.webhooks.find(number), webhook_id)
    after = await _position(context, question.after)
    return _present(_found(await context.webhooks.go_on(number, after=after, by=actor), webhook_id))


@router.get(
    "/{webhook_id}/deliveries",
    summary="The tries to deliver, newest first",
    description="Of the last seven days. What was sent is not kept: its message id names the changes in it.",
    responses=problems.responses(404, 422, 503),
)
async def read_deliveries(
    webhook_id: WebhookId,
    context: InContext,
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many on a page.")] = 100,
    before: Annotated[int | None, Query(ge=1, le=_GREATEST, description="Only those older; see `next`.")] = None,
) -> DeliveriesAnswer:
    number = _number(webhook_id)
    _found(await context.webhooks.find(number), webhook_id)
    found = await context.webhooks.attempts(number, before=before, limit=limit + 1)
    page = found[:limit]
    more = f"/webhooks/{webhook_id}/deliveries?limit={limit}&before={page[-1].id}" if len(found) > limit else None
    return DeliveriesAnswer(
        deliveries=[
            DeliveryAnswer(
                id=each.id,
                message_id=each.message_id,
                changes=each.changes,
                delivered=each.problem is None,
                status=each.status,
                problem=each.problem,
                milliseconds=each.milliseconds,
                at=each.at,
            )
            for each in page
        ],
        next=more,
    )


async def _position(context: Context, after: int | None) -> int:
    """The position to begin after, where one can; without one it is behind all that is committed by now."""
    try:
        return (await context.changes.check(after)).position
    except PositionDropped as error:
        sentence = f"body.after: changes after {after} were dropped for their age; they are kept after "
        raise ProblemAnswer(410, f"{sentence}{error.kept_after}.") from None
    except PositionAhead as error:
        raise ProblemAnswer(422, f"body.after: there is no change {after} yet, the last is {error.last}.") from None


def _number(webhook_id: str) -> int:
    if not _ID.fullmatch(webhook_id):
        raise _unknown(webhook_id)
    return int(webhook_id)


def _found(webhook: Webhook | None, webhook_id: str) -> Webhook:
    if webhook is None:
        raise _unknown(webhook_id)
    return webhook


def _unknown(webhook_id: str) -> ProblemAnswer:
    return ProblemAnswer(404, f"No webhook {webhook_id[:40]!r} is there; GET /webhooks lists them.")


def _present(webhook: Webhook) -> WebhookAnswer:
    wanted = webhook.wanted
    return WebhookAnswer(
        id=str(webhook.id),
        url=webhook.url,
        description=webhook.description,
        tiers=sorted(wanted.tiers),
        segments=sorted(wanted.segments),
        service_levels=sorted(wanted.service_levels),
        customer_ids=sorted(wanted.customer_ids),
        position=webhook.position,
        enabled=webhook.disabled_at is None,
        disabled_because=webhook.disabled_because,
        disabled_at=webhook.disabled_at,
        failures=webhook.failures,
        failing_since=webhook.failing_since,
        next_try_at=webhook.next_try_at,
        problem=webhook.problem,
        created_at=webhook.created_at,
    )
