"""What customers can ask of their data: all of it, and that it goes. Both want the scope `admin`."""

from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from segment_api import dossier_schemas, privacy_schemas, problems
from segment_api.context import Context, InContext
from segment_api.guarding import InActor, author_or
from segment_api.problems import InvalidField, ProblemAnswer
from segment_api.routes.customers import AskedFor, known_form, unknown
from segmentation.erasure import LONGEST_WORDS, Piece
from segmentation.fields import CustomerId

router = APIRouter(tags=["privacy"])

_KEPT = "kept with the erasure, so it may not name the customer"


@router.delete(
    "/customers/{customer_id}",
    summary="Erase a customer and everything derived from it",
    description="Raw events, orders, figures, assessments, history, overrides, announcements and what refused "
    "messages said, in one transaction; no count changes. From then on every message that names the id is suppressed: "
    "nothing of it is kept but that there was one. A tombstone goes to the topic of changes. All that stays is a keyed "
    "hash of the id; it cannot be undone. Erasing once more does nothing and says so. Who was never heard of is 404.",
    responses=problems.responses(404, 422, 503),
)
async def erase_customer(
    customer_id: AskedFor,
    context: InContext,
    actor: InActor,
    author: Annotated[
        dossier_schemas.Words | None,
        Query(description=f"Who has it erased; {_KEPT}.", min_length=1, max_length=LONGEST_WORDS),
    ] = None,
    reason: Annotated[
        dossier_schemas.Words | None,
        Query(description=f"Why; {_KEPT}.", min_length=1, max_length=LONGEST_WORDS),
    ] = None,
) -> privacy_schemas.ErasureAnswer:
    asked = known_form(customer_id)
    for name, words in (("author", author), ("reason", reason)):
        if words is not None and asked in words:
            wrong = InvalidField(field=f"query.{name}", problem="it names the customer and would outlive the erasure")
            raise ProblemAnswer(422, f"{wrong.field}: {wrong.problem}", errors=[wrong])
    erased = await context.privacy.erase(asked, author=author_or(actor, author), reason=reason, by=actor)
    if erased is None:
        raise unknown(customer_id)
    return privacy_schemas.ErasureAnswer(
        customer_id=asked,
        as_of=await _today(context),
        erased_at=erased.erased_at,
        already=erased.already,
        rows=dict(erased.rows),
    )


@router.get(
    "/customers/{customer_id}/data",
    summary="Everything that is kept about a customer",
    description="Table by table with its purpose, of one moment: exactly what `DELETE /customers/{customer_id}` takes. "
    "It is sent as it is read, however much it is.",
    response_model=privacy_schemas.ExportAnswer,
    responses=problems.responses(404, 503),
)
async def export_customer(customer_id: AskedFor, context: InContext) -> StreamingResponse:
    asked = known_form(customer_id)
    pieces = await context.privacy.export(asked)
    if pieces is None:
        raise unknown(customer_id)
    headers = {
        "Content-Disposition": f'attachment; filename="{asked.replace(":", "-")}.json"',
        "Cache-Control": "no-store",
    }
    body = _encoded(asked, await _today(context), context.now(), pieces)
    return StreamingResponse(body, media_type="application/json", headers=headers)


async def _today(context: Context) -> date | None:
    return (await context.reader.answers([], now=context.now())).as_of


async def _encoded(
    customer_id: CustomerId, as_of: date | None, now: datetime, pieces: AsyncIterator[Piece]
) -> AsyncIterator[bytes]:
    """The answer as it comes; of each table one list, however many pieces it is read in."""
    encode = msgspec.json.encode
    yield b'{"customer_id":%b,"as_of":%b,"exported_at":%b,"data":{' % tuple(map(encode, (customer_id, as_of, now)))
    name, empty = "", True
    async for piece in pieces:
        if piece.name != name:
            opening = b'%b:{"purpose":%b,"rows":[' % (encode(piece.name), encode(piece.purpose))
            yield (b"]}," if name else b"") + opening
            name, empty = piece.name, True
        if piece.rows:
            rows = encode(piece.rows)[1:-1]
            yield rows if empty else b"," + rows
            empty = False
    yield b"]}}}"
