"""Changes out over HTTP, as server-sent events: from any position on, without a hole.

Law: nothing is told to anybody whose key or token counts no more, however long ago the stream was opened.
"""

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.types import Send

from segment_api import problems
from segment_api.authenticating import StillMay
from segment_api.change_hub import Ending, Heard, Piece, PositionAhead, PositionDropped, Start, TooManyListeners
from segment_api.context import Context, InContext
from segment_api.guarding import InStillMay
from segment_api.problems import ProblemAnswer
from segmentation.errors import StoreUnavailable
from segmentation.streams import ChangeFilter
from segmentation.tiering import Tier

router = APIRouter(tags=["streams"])

_MOST: Final = 100
_LONGEST_WAIT_SECONDS: Final = 3_600
_RETRY_SECONDS: Final = "10"
_STUCK_SECONDS: Final = 30.0
_ASK_AGAIN_SECONDS: Final = 5.0
_POSITION: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_GREATEST: Final = 2**63 - 1

Code = Annotated[str, Field(min_length=1, max_length=64)]

_EXAMPLE: Final = """retry: 2000
id: 4710

event: change
id: 4711
data: {"schema":1,"kind":"change","sequence":4711,"customer_id":"C-1042","as_of":"2026-11-22","before":null,...}

: alive
id: 4713

event: end
id: 4713
data: {"reason":"closing","resume_after":4713}

"""
_SAID: Final = {
    Ending.DONE: "So long you wanted to wait.",
    Ending.LAGGING: "You read more slowly than changes happen; come again with this id, nothing is lost.",
    Ending.DROPPED: "What comes next was dropped for its age; read everyone anew, then come again without an id.",
    Ending.CLOSING: "The service ends here; come again with this id.",
    Ending.UNAUTHORIZED: "The key or token was revoked or has expired; come again with this id and one that counts.",
}


class EventStream(StreamingResponse):
    """Server-sent events to somebody who reads them."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        async def prompt_send(message: Any) -> None:  # noqa: ANN401 - an ASGI message
            # Whoever takes nothing at all for so long is not there, or might as well not be.
            async with asyncio.timeout(_STUCK_SECONDS):
                await send(message)

        with contextlib.suppress(TimeoutError):
            await super().stream_response(prompt_send)


@router.get(
    "/changes",
    summary="Changes of tier, segment or service level, as they happen",
    description="Server-sent events: each `change` has as its data the message that goes to the topic of changes "
    "(`/asyncapi.json`), and as its `id` its sequence. Come again with the last id (`Last-Event-ID`, or `after`) and "
    "nothing is missed or told twice. Without one it begins now. A sign of life comes every 15 s, with the id to come "
    "again with. The last event of an answer, `end`, says why it ends; `unauthorized`, when the key was revoked or the "
    "key or token has expired meanwhile. With filters a change is told where the "
    "customer matches all of them before it or after it: so who leaves tier A is told as well. An `erased` event says "
    "that a customer was erased, whatever the filters but `customer_id`: forget what you have of it.",
    response_class=EventStream,
    responses={
        200: {"description": "A stream without end.", "content": {"text/event-stream": {"example": _EXAMPLE}}},
        **problems.responses(410, 422, 429, 503),
    },
)
async def follow_changes(
    context: InContext,
    still_may: InStillMay,
    *,
    tier: Annotated[list[Tier] | None, Query(description="Only of these tiers.", max_length=4)] = None,
    segment: Annotated[list[Code] | None, Query(description="Only of these segments.", max_length=_MOST)] = None,
    service_level: Annotated[
        list[Code] | None, Query(description="Only of these service levels.", max_length=_MOST)
    ] = None,
    customer_id: Annotated[list[Code] | None, Query(description="Only these customers.", max_length=_MOST)] = None,
    after: Annotated[
        str | None, Query(description="The sequence after which to begin; 0 for all that is kept.", examples=["4711"])
    ] = None,
    wait: Annotated[
        float | None,
        Query(
            ge=0,
            le=_LONGEST_WAIT_SECONDS,
            description="End after so many seconds, once all is told that was there; 0 to ask now and then.",
        ),
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="The last id seen; it wins over `after`.", examples=["4711"])
    ] = None,
) -> EventStream:
    start = await _begin(context, last_event_id or after, "header.Last-Event-ID" if last_event_id else "query.after")
    wanted = ChangeFilter(*(frozenset(codes or ()) for codes in (tier, segment, service_level, customer_id)))
    return EventStream(
        _events(context, still_may, start, wanted, wait),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _begin(context: Context, given: str | None, where: str) -> Start:
    after = None
    if given is not None:
        if not _POSITION.fullmatch(given) or int(given) > _GREATEST:
            raise ProblemAnswer(422, f"{where}: {given[:40]!r} is no id of an event of this stream; send one that was.")
        after = int(given)
    try:
        return await context.changes.begin(after)
    except PositionDropped as error:
        raise ProblemAnswer(
            410,
            f"{where}: changes after {after} were dropped for their age, they are kept after {error.kept_after}. Read "
            "everyone anew, then come again without an id.",
        ) from None
    except PositionAhead as error:
        raise ProblemAnswer(
            422, f"{where}: there is no change {after} yet, the last is {error.last}; is the id from another system?"
        ) from None
    except TooManyListeners:
        raise ProblemAnswer(
            429, "So many follow the changes here that there is no room.", headers={"Retry-After": _RETRY_SECONDS}
        ) from None


async def _events(
    context: Context, still_may: StillMay, start: Start, wanted: ChangeFilter, wait: float | None
) -> AsyncIterator[str]:
    # Not all at once after a restart. An id without data moves the place to come again with, and is no event.
    yield f"retry: {random.randint(1_000, 3_000)}\nid: {start.position}\n\n"  # noqa: S311 - no secret
    position = start.position
    async with contextlib.aclosing(context.changes.follow(start, wait_seconds=wait)) as pieces:
        async for piece in pieces:
            while piece.ending is None and (may := await _may(still_may)) is not True:
                if may is False:
                    yield _text(Piece(position, ending=Ending.UNAUTHORIZED), ())
                    return
                # Not told, and not lost: it waits until somebody can say whether the key counts.
                yield ": alive\n\n"
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
            position = piece.position
            yield _text(piece, [each for each in piece.changes if wanted.wants(each.customer_id, each.sides)])


async def _may(still_may: StillMay) -> bool | None:
    """None where nobody can tell: the database has been away for long."""
    try:
        return await still_may()
    except StoreUnavailable:
        return None


def _text(piece: Piece, changes: Sequence[Heard]) -> str:
    parts = [
        f"event: {'erased' if change.erased else 'change'}\nid: {change.position}\ndata: {change.text}\n\n"
        for change in changes
    ]
    if piece.ending is not None:
        told = {"reason": piece.ending, "resume_after": piece.position, "detail": _SAID[piece.ending]}
        parts.append(f"event: end\nid: {piece.position}\ndata: {json.dumps(told)}\n\n")
    elif not changes or changes[-1].position < piece.position:
        parts.append(f": alive\nid: {piece.position}\n\n")
    return "".join(parts)
