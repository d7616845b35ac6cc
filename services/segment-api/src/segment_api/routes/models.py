"""The published models: which there are, which is in force, and how good they are."""

import re
from typing import Annotated

from fastapi import APIRouter, Path

from segment_api import model_schemas, outlooks, problems
from segment_api.context import InContext
from segment_api.problems import ProblemAnswer

router = APIRouter(tags=["models"])

_HIGHEST = 2**31 - 1
_SHOWN = 100


@router.get(
    "/models",
    summary="All published models",
    description="Which is in force, and when which was put in force, by whom and why. `segment-trainer` trains, "
    "publishes and activates them.",
    responses=problems.responses(503),
)
async def read_models(context: InContext) -> model_schemas.ModelsAnswer:
    versions = await context.models.versions()
    return outlooks.present_models(versions, await context.models.activations(limit=_SHOWN))


@router.get(
    "/models/{version}",
    summary="A published model, with its card",
    description="The card says what the model was made from and how good it is, beside the naive rules it was held "
    "against.",
    responses=problems.responses(404, 503),
)
async def read_model(
    version: Annotated[str, Path(description="Number of the model.", examples=["7"])], context: InContext
) -> model_schemas.ModelDetail:
    found = None
    if re.fullmatch("[1-9][0-9]{0,9}", version, re.ASCII) and int(version) <= _HIGHEST:
        found = await context.models.find(int(version))
    if found is None:
        raise ProblemAnswer(404, f"There is no model {version[:_SHOWN]}; GET /models lists them.")
    return outlooks.present_model(found)
