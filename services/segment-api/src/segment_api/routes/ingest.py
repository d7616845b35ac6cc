"""What becomes of messages: progress, counts, and what was refused."""

import re
from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.convertors import Convertor, register_url_convertor

from segment_api import ingest_answers, ingest_schemas, problems
from segment_api.context import InContext
from segment_api.guarding import InActor
from segment_api.problems import ProblemAnswer
from segmentation.events import MAX_EVENT_ID, RejectReason


class _AnyText(Convertor[str]):
    """The rest of a path, whatever is in it: Starlette's `path` stops at a line break, which an event's id may have."""

    regex = r"(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any_text", _AnyText())

router = APIRouter(tags=["ingestion"])

_GREATEST_ID = 2**63 - 1
_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_SHOWN = 100
_SNAPSHOTS_SHOWN = 10
_LONGEST = timedelta(days=366)


@router.get(
    "/ingest/status",
    summary="Is it keeping up, and what became of the messages",
    description="Counts are exact and in step with the data: every message read is one of applied, duplicate, "
    "rejected or suppressed.",
    responses=problems.responses(503),
)
async def read_status(context: InContext) -> ingest_schemas.IngestAnswer:
    status = await context.reader.status(now=context.now())
    return ingest_answers.present_status(status, context.house.clock)


@router.get(
    "/ingest/totals",
    summary="Events and amounts applied, to set against the books",
    description="Per business day, type and currency, as given in the events: every applied event is in it once, also "
    "older versions of an order and what was retracted, and also after its raw event was dropped for its age. Up to "
    "366 days at a time.",
    responses=problems.responses(422, 503),
)
async def read_totals(
    context: InContext,
    first: Annotated[date, Query(alias="from", description="The first business day.")],
    last: Annotated[date, Query(alias="to", description="The last business day.")],
) -> ingest_schemas.TotalsAnswer:
    if not timedelta(0) <= last - first <= _LONGEST:
        raise ProblemAnswer(422, f"query.to: {last} is before {first}, or more than {_LONGEST.days} days after it.")
    return ingest_answers.present_totals(first, last, await context.reader.totals(first, last))


@router.get(
    "/ingest/full-snapshots",
    summary="Full snapshots on the topic of changes",
    description="The last ten asked for, newest first: whether they have begun, how far they are, when they were done. "
    "`ingest-worker snapshot` asks for one, and so does the schedule.",
    responses=problems.responses(503),
)
async def read_full_snapshots(context: InContext) -> ingest_schemas.FullSnapshotsAnswer:
    found = await context.reader.full_snapshots(limit=_SNAPSHOTS_SHOWN)
    return ingest_schemas.FullSnapshotsAnswer(
        full_snapshots=[ingest_answers.present_full_snapshot(each) for each in found]
    )


@router.get(
    "/events/{event_id:any_text}",
    summary="What became of an event",
    description="Whether it was applied and counts, which version of the order counts in its place, or why it was "
    "refused. Of an event whose raw form was dropped for its age nothing is known any more; the 404 then says from "
    "which day on events are known.",
    responses=problems.responses(404, 503),
)
async def read_event(
    context: InContext, event_id: Annotated[str, Path(description="As in the message.", examples=["evt-4711"])]
) -> ingest_schemas.EventAnswer:
    known = 1 <= len(event_id) <= MAX_EVENT_ID and "\x00" not in event_id
    fate = await context.reader.event(event_id) if known else None
    if fate is None:
        since = (await context.reader.status(now=context.now())).events_known_since
        dropped = f" Raw events of days before {since} were dropped; it may have been one of them." if since else ""
        raise ProblemAnswer(404, f"No event {event_id[:_SHOWN]!r} is known.{dropped}")
    return ingest_answers.present_event(fate)


@router.get(
    "/dead-letters",
    summary="Rejected messages, newest first",
    description="Each with its reason, the field, and what to send instead. Nothing rejected is ever lost.",
    responses=problems.responses(422, 503),
)
async def read_dead_letters(
    context: InContext,
    reason: Annotated[RejectReason | None, Query(description="Only those of one reason.")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many on a page.")] = 100,
    before: Annotated[
        int | None, Query(ge=1, le=_GREATEST_ID, description="Only those older than this id; see `next`.")
    ] = None,
) -> ingest_schemas.DeadLettersAnswer:
    letters = await context.reader.dead_letters(reason=reason, before_id=before, limit=limit + 1)
    page = letters[:limit]
    following = None
    if len(letters) > limit:
        wanted = f"&reason={reason}" if reason else ""
        following = f"/dead-letters?limit={limit}&before={page[-1].id}{wanted}"
    return ingest_schemas.DeadLettersAnswer(
        dead_letters=[ingest_answers.present_dead_letter(letter) for letter in page], next=following
    )


@router.get(
    "/dead-letters/{letter_id}",
    summary="One rejected message with its bytes",
    responses=problems.responses(404, 503),
)
async def read_dead_letter(
    context: InContext,
    letter_id: Annotated[str, Path(description="As listed.", examples=["17"])],
) -> ingest_schemas.DeadLetterDetail:
    letter = await context.reader.dead_letter(_letter_id(letter_id))
    if letter is None:
        raise _no_letter(letter_id)
    return ingest_answers.present_dead_letter_detail(letter)


@router.post(
    "/dead-letters/{letter_id}/replay",
    summary="Read a rejected message again",
    description="After its cause was mended, such as a missing exchange rate. What succeeds moves from rejected to its "
    "new outcome; replaying it once more changes nothing.",
    responses=problems.responses(404, 503),
)
async def replay_dead_letter(
    context: InContext,
    actor: InActor,
    letter_id: Annotated[str, Path(description="As listed.", examples=["17"])],
) -> ingest_schemas.ReplayAnswer:
    replay = await context.quarantine.replay(_letter_id(letter_id), now=context.now(), by=actor)
    if replay is None:
        raise _no_letter(letter_id)
    return ingest_answers.present_replay(replay)


def _letter_id(text: str) -> int:
    if not _ID.fullmatch(text) or int(text) > _GREATEST_ID:
        raise _no_letter(text)
    return int(text)


def _no_letter(text: str) -> ProblemAnswer:
    return ProblemAnswer(404, f"No dead letter {text[:_SHOWN]!r} is there.")
