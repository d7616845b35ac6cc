"""The ranking of everyone."""

from fastapi import APIRouter

from segment_api import problems, schemas, summaries
from segment_api.context import InContext

router = APIRouter(tags=["tiers"])


@router.get(
    "/tiers",
    summary="Cut-offs, counts and shares of the value tiers",
    description="By computed tier, as last settled: a second behind the events at most.",
    responses=problems.responses(503),
)
async def read_tiers(context: InContext) -> schemas.TiersAnswer:
    return summaries.present_tiers(await context.reader.tiers(), context.decimals)
