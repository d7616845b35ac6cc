"""Who changed what by hand."""

from typing import Annotated

from fastapi import APIRouter, Query

from segment_api import audit_schemas, problems
from segment_api.context import InContext
from segmentation.access import Action, AuditEntry

router = APIRouter(tags=["access"])

_GREATEST_ID = 2**63 - 1


@router.get(
    "/audit",
    summary="What was changed by hand, newest first",
    description="Every override set or ended, every policy drafted, activated, scheduled or taken back, every replay, "
    "every key created, rotated or revoked: who, when, what, why. An entry is written with its change, or neither is.",
    responses=problems.responses(422, 503),
)
async def read_audit(
    context: InContext,
    action: Annotated[Action | None, Query(description="Only changes of one kind.")] = None,
    customer_id: Annotated[
        str | None, Query(max_length=64, description="Only those about one customer.", examples=["C-1042"])
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many on a page.")] = 100,
    before: Annotated[
        int | None, Query(ge=1, le=_GREATEST_ID, description="Only those older than this id; see `next`.")
    ] = None,
) -> audit_schemas.AuditAnswer:
    asked = customer_id.replace("\0", "") if customer_id is not None else None
    found = await context.audit.entries(action=action, customer_id=asked, before_id=before, limit=limit + 1)
    page = found[:limit]
    following = None
    if len(found) > limit:
        wanted = (f"&action={action}" if action else "") + (f"&customer_id={asked}" if asked else "")
        following = f"/audit?limit={limit}&before={page[-1].id}{wanted}"
    return audit_schemas.AuditAnswer(entries=[_present(each) for each in page], next=following)


def _present(entry: AuditEntry) -> audit_schemas.AuditEntryAnswer:
    by, deed = entry.by, entry.deed
    return audit_schemas.AuditEntryAnswer(
        id=entry.id,
        at=entry.at,
        by=audit_schemas.ActorAnswer(kind=by.kind, id=by.id, name=by.name),
        action=deed.action,
        customer_id=deed.customer_id,
        subject=deed.subject,
        author=deed.author,
        reason=deed.reason,
        detail=dict(deed.detail),
        request_id=by.request_id,
    )
