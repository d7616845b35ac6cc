"""Is the service alive, is it ready, and how is it doing."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from segment_api import problems, schemas
from segment_api.context import InContext
from segment_api.telemetry import Telemetry

router = APIRouter(tags=["health"])


@router.get("/health/live", summary="The process answers")
async def read_live() -> schemas.HealthAnswer:
    return schemas.HealthAnswer(status="live")


@router.get("/health/ready", summary="The service can answer questions", responses=problems.responses(503))
async def read_ready(context: InContext) -> schemas.HealthAnswer:
    await context.reader.ping()
    return schemas.HealthAnswer(status="ready")


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={**problems.responses(503), 200: {"content": {"text/plain": {}}}},
)
async def read_prometheus(context: InContext, telemetry: Telemetry) -> Response:
    telemetry.note(await context.reader.status(now=context.now()))
    return Response(telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)
