"""The documents: OpenAPI completed (problems in the shape they have, examples as written), AsyncAPI beside it."""

import copy
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from segment_api import (
    asyncapi,
    dispatch_schemas,
    dossier_schemas,
    ingest_schemas,
    listing_schemas,
    policy_schemas,
    problems,
    schemas,
)

_NOT_OURS = "HTTPValidationError"


def complete_document(app: FastAPI) -> None:
    """Makes the application's document say what the application does."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        parts: dict[str, Any] = document["components"]["schemas"]
        parts["Problem"] = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        parts |= parts["Problem"].pop("$defs", {})
        # FastAPI documents an error shape of its own wherever there is a parameter, and leaves nulls out of examples.
        for unused in (_NOT_OURS, "ValidationError"):
            parts.pop(unused, None)
        for path in document["paths"].values():
            for operation in path.values():
                if _NOT_OURS in str(operation["responses"].get("422", "")):
                    del operation["responses"]["422"]
        topics = (schemas, ingest_schemas, policy_schemas, dossier_schemas, listing_schemas, dispatch_schemas)
        for model in {name: value for topic in topics for name, value in vars(topic).items()}.values():
            if isinstance(model, type) and issubclass(model, BaseModel) and model.__name__ in parts:
                example = (model.model_config.get("json_schema_extra") or {}).get("example")  # type: ignore[union-attr]
                if example is not None:
                    parts[model.__name__]["example"] = copy.deepcopy(example)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def serve_asyncapi(app: FastAPI) -> None:
    """Serves the AsyncAPI document as the OpenAPI document is served: to everyone, and itself undocumented."""
    document = asyncapi.asyncapi_document(version=app.version)

    async def read_asyncapi() -> JSONResponse:
        return JSONResponse(document)

    app.add_api_route(asyncapi.PATH, read_asyncapi, include_in_schema=False)
