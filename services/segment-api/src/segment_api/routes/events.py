"""Events in over HTTP, for those without Kafka: an outcome for each, through the same ledger."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request

from segment_api import posting_schemas, problems
from segment_api.context import InContext
from segment_api.ingest_schemas import EventCounts
from segment_api.posted_rows import MOST_EVENTS, UnreadableBody, rows
from segment_api.problems import InvalidField, ProblemAnswer
from segmentation.events import decode
from segmentation.intake import POSTED, Verdict
from segmentation.outcomes import Delivery, Outcome, Reading

router = APIRouter(tags=["ingestion"])

_AT_WORK: Final = 2
"""Calls that use the database at once: the rest of its connections is for those who ask."""
_WAITING: Final = 64
_RETRY_SECONDS: Final = "2"


class Turns:
    """Calls with events take turns, and only so many wait."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_WORK)
        self._here = 0

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        if self._here >= _AT_WORK + _WAITING:
            sentence = f"{self._here} calls with events are under way here; nothing of this one was read."
            raise ProblemAnswer(429, sentence, headers={"Retry-After": _RETRY_SECONDS})
        self._here += 1
        try:
            async with self._free:
                yield
        finally:
            self._here -= 1


@router.post(
    "/events",
    summary="Events in without Kafka: an outcome for each",
    description=f"Up to {MOST_EVENTS:,} events of any type, read, judged and counted exactly as messages of Kafka are. "
    "A rejected one is kept as a dead letter and told here, and stops no other: the answer is 200. Send the same again "
    "as often as you like: what was applied is a duplicate then. `validate_only=true` stores nothing and says what "
    "would become of each.",
    responses=problems.responses(413, 422, 429, 503),
    openapi_extra={"requestBody": posting_schemas.BODY},
)
async def post_events(
    request: Request,
    context: InContext,
    validate_only: Annotated[bool, Query(description="Only say what would become of them.")] = False,  # noqa: FBT002 - a query parameter
) -> posting_schemas.PostedEventsAnswer:
    body = await request.body()
    turns: Turns = request.app.state.turns
    async with turns.take():
        try:
            # Beside the loop: a thousand events take long enough to keep somebody's lookup waiting.
            readings = await asyncio.to_thread(_read, body, request.headers.get("content-type", ""))
        except UnreadableBody as error:
            raise ProblemAnswer(
                422, f"body: {error}", errors=[InvalidField(field="body", problem=str(error))]
            ) from None
        take = context.intake.try_out if validate_only else context.intake.take_in
        verdicts = await take(readings, now=context.now())
    return _present(verdicts, validate_only=validate_only)


def _read(body: bytes, content_type: str) -> list[Reading]:
    return [
        Reading(Delivery(POSTED, index, value), decode(value)) for index, value in enumerate(rows(body, content_type))
    ]


def _present(verdicts: Sequence[Verdict], *, validate_only: bool) -> posting_schemas.PostedEventsAnswer:
    counts = Counter(verdict.outcome for verdict in verdicts)
    return posting_schemas.PostedEventsAnswer(
        validate_only=validate_only,
        outcomes=EventCounts(**{outcome.value: counts[outcome] for outcome in Outcome}),
        events=[
            posting_schemas.PostedEventAnswer(
                index=index,
                event_id=verdict.event_id,
                outcome=verdict.outcome,
                reason=verdict.reject.reason if verdict.reject else None,
                field=verdict.reject.field if verdict.reject else None,
                detail=verdict.reject.sentence if verdict.reject else None,
            )
            for index, verdict in enumerate(verdicts)
        ],
    )
